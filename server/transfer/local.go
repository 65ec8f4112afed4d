package transfer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// definitionFile keeps, in a VM's folder, how the machine was defined at the virtualiser before it was taken over.
const definitionFile = "imported-definition"

// Machines are the machines of the virtualiser, also those that are not ours.
type Machines interface {
	hypervisor.Migration
	List(ctx context.Context) ([]hypervisor.Machine, error)
	Undefine(ctx context.Context, uuid string) error
	// Definition returns the virtualiser's own text of a machine, secrets included; Redefine defines a machine by it whose disks have these files, in order.
	Definition(ctx context.Context, uuid string) ([]byte, error)
	Redefine(ctx context.Context, definition []byte, files []string) error
}

// Files are the files of volumes.
type Files interface {
	VolumeDirectory(uuid string, storage int) (string, error)
	Storages() int
	// Empty makes a volume of zeros.
	Empty(ctx context.Context, v vm.VolumeSpec) (uint64, error)
	// Size returns the size of the disk in a file of this format; an error if it is no such file.
	Size(ctx context.Context, file string, format hypervisorv1.VolumeFormat) (uint64, error)
}

// Bridges knows the networks' bridges.
type Bridges interface {
	// Bridge returns the bridge of a subnet.
	Bridge(subnetID string) (string, error)
}

// ImportLocalVm implements VmTransferService.
func (s *Service) ImportLocalVm(ctx context.Context, req *hypervisorv1.ImportLocalVmRequest) (*hypervisorv1.ImportLocalVmResponse, error) {
	if err := s.Cookie.Check(req.GetVerificationCookie()); err != nil {
		return nil, err
	}
	if err := checkImport(req); err != nil {
		return nil, err
	}
	caller := principal.CallerFrom(ctx)
	info := proto.CloneOf(req.GetVmInfo())
	info.Uuid, info.CreatedOn, info.ChangedStateOn = s.NewUUID(), timestamppb.New(s.Now()), timestamppb.New(s.Now())
	info.OwnerUsers, info.OwnerGroups, info.Uncommitted, info.Volumes = []string{caller.Name}, nil, true, nil
	info.State = hypervisorv1.State_STATE_STARTING
	err := s.Operations.Finish(ctx, func(ctx context.Context) error {
		other, err := s.machineOf(ctx, req.GetVolumeFilenames())
		if err != nil {
			return err
		}
		release, err := s.Operations.Admit(ctx, info, principal.Caller{Principal: caller.Principal, Power: true}, !req.GetSkipMemoryCheck())
		if err != nil {
			return err
		}
		defer release()
		if err := s.takeOver(ctx, info.GetUuid(), req, other); err != nil {
			return errors.Join(err, s.Operations.Discard(ctx, info.GetUuid()))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ImportLocalVmResponse{}, nil
}

func checkImport(req *hypervisorv1.ImportLocalVmRequest) error {
	if err := vm.CheckNew(req.GetVmInfo()); err != nil {
		return err
	}
	files := req.GetVolumeFilenames()
	if volumes := len(req.GetVmInfo().GetVolumes()); len(files) == 0 || volumes > len(files) {
		return fault.New(fault.InvalidArgument, "volume_filenames: %d files for %d vm_info.volumes", len(files), volumes)
	}
	seen := make(map[string]bool)
	for i, file := range files {
		st, err := os.Lstat(file)
		switch {
		case !filepath.IsAbs(file):
			return fault.New(fault.InvalidArgument, "volume_filenames[%d]: %q is not an absolute path", i, file)
		case err != nil:
			return fault.Wrap(err, "volume_filenames[%d]", i)
		case !st.Mode().IsRegular() || seen[filepath.Clean(file)]:
			return fault.New(fault.InvalidArgument, "volume_filenames[%d]: %s is not a regular file, or is given twice", i, file)
		}
		seen[filepath.Clean(file)] = true
	}
	return nil
}

// machineOf returns the virtualiser's machine that has one of the files, if there is one. It must be off.
func (s *Service) machineOf(ctx context.Context, files []string) (*hypervisor.Machine, error) {
	machines, err := s.Machines.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range machines {
		uses := slices.ContainsFunc(m.Spec.Disks, func(d hypervisor.Disk) bool { return slices.Contains(files, d.File) })
		if !uses {
			continue
		}
		if m.State.Alive() {
			return nil, fault.New(fault.FailedPrecondition, "machine %q of the virtualiser uses these volumes and runs; shut it down first", m.Name)
		}
		return &m, nil
	}
	return nil, nil //nolint:nilnil // there need not be one
}

// takeOver makes the files the VM's volumes, keeps what the machine was, and starts the VM.
func (s *Service) takeOver(ctx context.Context, uuid string, req *hypervisorv1.ImportLocalVmRequest, other *hypervisor.Machine) error {
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return err
	}
	if other != nil {
		text, err := s.Machines.Definition(ctx, other.UUID)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(filepath.Join(dir, definitionFile), append([]byte(other.UUID+"\n"), text...)); err != nil {
			return err
		}
	}
	var volumes []*hypervisorv1.Volume
	var places []*hypervisorv1.LocalVolume
	for i, file := range req.GetVolumeFilenames() {
		v := new(hypervisorv1.Volume)
		if i < len(req.GetVmInfo().GetVolumes()) {
			v = proto.CloneOf(req.GetVmInfo().GetVolumes()[i])
		}
		if v.Size, err = s.Files.Size(ctx, file, v.GetFormat()); err != nil {
			return fault.Wrap(err, "volume_filenames[%d]", i)
		}
		place, err := s.link(uuid, i, file)
		if err != nil {
			return fault.Wrap(err, "volume_filenames[%d]", i)
		}
		v.VirtualSize, v.Snapshots = v.GetSize(), nil
		volumes, places = append(volumes, v), append(places, place)
	}
	_, err = s.Operations.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Volumes, r.VolumeLocations = volumes, places
		return nil
	})
	if err == nil {
		err = s.Operations.Enter(ctx, uuid, hypervisorv1.State_STATE_STOPPED, "")
	}
	if err == nil {
		_, err = s.resume(req.GetSkipMemoryCheck())(ctx, uuid, 0)
	}
	if err != nil {
		return err
	}
	return s.Operations.Settle(ctx, uuid)
}

// resume is how a VM is started that has come here.
func (s *Service) resume(untested bool) func(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error) {
	if untested {
		return s.Operations.ResumeUntested
	}
	return s.Operations.Resume
}

// link gives a file a second name among the VM's volumes, on the storage device that it lies on.
func (s *Service) link(uuid string, i int, file string) (*hypervisorv1.LocalVolume, error) {
	for storage := range s.Files.Storages() {
		dir, err := s.Files.VolumeDirectory(uuid, storage)
		if err != nil {
			return nil, err
		}
		place := &hypervisorv1.LocalVolume{DirectoryToCleanup: dir, Filename: filepath.Join(dir, vm.VolumeFile(i))}
		err = os.Link(file, place.GetFilename())
		if err == nil {
			return place, atomicfile.SyncDir(dir)
		}
		if !errors.Is(err, unix.EXDEV) {
			return nil, err
		}
	}
	return nil, fault.New(fault.FailedPrecondition, "%s: lies on the file system of no volume directory, so it can not be linked; see ListVolumeDirectories", file)
}

// CommitImportedVm implements VmTransferService. The machine that the volumes belonged to is forgotten by the virtualiser.
func (s *Service) CommitImportedVm(ctx context.Context, req *hypervisorv1.CommitImportedVmRequest) (*hypervisorv1.CommitImportedVmResponse, error) {
	err := s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.Operations.Acquire(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer release()
		info := record.GetVmInfo()
		if !info.GetUncommitted() || info.GetState() == hypervisorv1.State_STATE_MIGRATING {
			return fault.New(fault.FailedPrecondition, "vm %s: can not be committed: it was not imported, or is committed already", vm.Name(info))
		}
		uuid, _, err := s.definition(info.GetUuid())
		if err != nil {
			return err
		}
		if uuid != "" {
			if err := s.Machines.Undefine(ctx, uuid); err != nil {
				return fault.Wrap(err, "vm %s: forget the machine that it was", vm.Name(info))
			}
		}
		_, err = s.Operations.Change(ctx, info.GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
			r.VmInfo.Uncommitted = false
			return nil
		})
		if err != nil {
			return err
		}
		return s.Operations.AdoptAddresses(ctx, info.GetUuid())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.CommitImportedVmResponse{}, nil
}

// definition returns what was kept of the machine that a VM was; no UUID if it was none.
func (s *Service) definition(vmUUID string) (uuid string, text []byte, err error) {
	dir, err := s.Operations.Directory(vmUUID)
	if err != nil {
		return "", nil, err
	}
	kept, err := os.ReadFile(filepath.Join(dir, definitionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	i := slices.Index(kept, '\n')
	if i < 0 {
		return "", nil, fault.New(fault.DataLoss, "%s: is damaged", filepath.Join(dir, definitionFile))
	}
	return string(kept[:i]), kept[i+1:], nil
}
