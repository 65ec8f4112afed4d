package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// makingVM is the making of a VM: the disks are made in a folder of ours, and the VM service takes them over as it does those of an export job.
type makingVM struct {
	*Service
	uuid string
	// info is the VM as it shall be, with its volumes.
	info     *hypervisorv1.VmInfo
	userData []byte
	// source is the machine that fill copies from, if it is alive.
	source string
	fill   func(ctx context.Context, files []string) error
	start  bool
	tell   *teller
}

func (m makingVM) run(ctx context.Context) (made *hypervisorv1.MadeDomain, err error) {
	dir := filepath.Join(m.StageDir, "appliance-"+m.NewUUID())
	err = m.do(ctx, work{Source: m.source, Folders: []string{dir}}, func(ctx context.Context) error {
		if err := os.Mkdir(dir, 0o711); err != nil { //nolint:gosec // QEMU may run as another user, who must get through to files that it writes
			return fault.Wrap(err, "working folder")
		}
		files := make([]string, len(m.info.GetVolumes()))
		for i := range files {
			files[i] = filepath.Join(dir, fmt.Sprintf("volume%d", i))
		}
		if err := m.fill(ctx, files); err != nil {
			return err
		}
		m.tell.tell("creating the VM", 0, 0)
		if made, err = m.create(ctx, files); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	})
	return made, err
}

func (m makingVM) create(ctx context.Context, files []string) (*hypervisorv1.MadeDomain, error) {
	spec := &hypervisorv1.CreateVmSpec{VmInfo: m.info, DoNotStart: true}
	info, err := m.Operations.Import(ctx, m.uuid, spec, files, principal.CallerFrom(ctx))
	if err != nil {
		return nil, err
	}
	if err := m.furnish(ctx); err != nil {
		_, destroyErr := m.Operations.DestroyVm(context.WithoutCancel(ctx), &hypervisorv1.DestroyVmRequest{Vm: m.uuid})
		return nil, errors.Join(err, destroyErr)
	}
	return m.madeVM(info), nil
}

func (m makingVM) furnish(ctx context.Context) error {
	if m.userData != nil {
		if err := m.UserData.Put(m.uuid, m.userData); err != nil {
			return fault.Wrap(err, "user data")
		}
	}
	if !m.start {
		return nil
	}
	m.tell.tell("starting the VM", 0, 0)
	return m.resume(ctx, m.uuid)
}

// resume starts a VM.
func (s *Service) resume(ctx context.Context, uuid string) error {
	_, release, err := s.Operations.Acquire(ctx, uuid)
	if err != nil {
		return err
	}
	defer release()
	_, err = s.Operations.Resume(ctx, uuid, 0)
	return err
}

func (s *Service) madeVM(info *hypervisorv1.VmInfo) *hypervisorv1.MadeDomain {
	made := &hypervisorv1.MadeDomain{Name: info.GetHostname(), Uuid: info.GetUuid(), Managed: true, VmIpAddress: info.GetAddress().GetIpAddress()}
	if record, known := s.vm(info.GetUuid()); known {
		for _, place := range record.GetVolumeLocations() {
			made.Files = append(made.Files, place.GetFilename())
		}
	}
	return made
}

// another returns what a further VM made after info is: with its shape, but with its own name and addresses, and owned by whoever makes it.
func another(info *hypervisorv1.VmInfo, name string) *hypervisorv1.VmInfo {
	info = proto.CloneOf(info)
	info.Hostname = name
	info.Uuid, info.CreatedOn, info.ChangedStateOn, info.State, info.StateReason = "", nil, nil, hypervisorv1.State_STATE_UNSPECIFIED, ""
	info.Address, info.SecondaryAddresses, info.IdentityName, info.IdentityExpires, info.Uncommitted = nil, nil, "", nil, false
	info.OwnerUsers, info.OwnerGroups, info.DestroyProtection = nil, nil, false
	for _, v := range info.GetVolumes() {
		v.Snapshots = nil
	}
	return info
}

// formatsOf returns the formats of disks.
func formatsOf(disks []hypervisor.ApplianceDisk) []hypervisor.DiskFormat {
	formats := make([]hypervisor.DiskFormat, len(disks))
	for i, d := range disks {
		formats[i] = d.Format
	}
	return formats
}
