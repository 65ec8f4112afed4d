package appliance

import (
	"context"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// RestoreBackup implements ApplianceService.
func (s *Service) RestoreBackup(req *hypervisorv1.RestoreBackupRequest, stream grpc.ServerStreamingServer[hypervisorv1.RestoreBackupResponse]) error {
	ctx := stream.Context()
	chain, release, err := s.lockChain(ctx, req.GetBackup())
	if err != nil {
		return err
	}
	defer release()
	r := restoring{Service: s, m: chain[0], start: req.GetStart(), tell: &teller{now: s.Now, send: func(p *hypervisorv1.ApplianceProgress) error {
		return stream.Send(&hypervisorv1.RestoreBackupResponse{Progress: p})
	}}}
	for _, m := range chain { // a disk that was damaged must not take the place of a good one
		r.tell.tell("verifying backup "+m.Name, 0, 0)
		if err := s.verify(ctx, m); err != nil {
			return fault.Wrap(err, "backup %q", m.Name)
		}
	}
	made, err := r.run(ctx, req.GetNewName())
	if err != nil {
		return fault.Wrap(err, "backup %q: restore", req.GetBackup())
	}
	return stream.Send(&hypervisorv1.RestoreBackupResponse{Final: true, Domain: made})
}

// restoring is the putting back of one backup.
type restoring struct {
	*Service
	m     *manifest
	start bool
	tell  *teller
}

func (r restoring) run(ctx context.Context, newName string) (*hypervisorv1.MadeDomain, error) {
	if newName != "" {
		if err := checkMachineName("new_name", newName, r.m.managed()); err != nil {
			return nil, err
		}
		if err := r.nameFree(ctx, newName); err != nil {
			return nil, err
		}
		if r.m.managed() {
			return r.furtherVM(ctx, newName)
		}
		return r.further(ctx, newName)
	}
	if r.m.managed() {
		return r.vmInPlace(ctx)
	}
	return r.inPlace(ctx)
}

// fill makes the disks' files.
func (r restoring) fill(ctx context.Context, files []string) error {
	for i, d := range r.m.Disks {
		if err := r.copyFile(ctx, r.diskOf(ctx, r.m, d), files[i], d.format(), false, r.tell.about("restoring disk "+d.Target)); err != nil {
			return fault.Wrap(err, "disk %s", d.Target)
		}
	}
	return nil
}

func (r restoring) path(p *part) string {
	if p == nil {
		return ""
	}
	return filepath.Join(r.backupPath(r.m.Name), p.File)
}

// further makes one more domain.
func (r restoring) further(ctx context.Context, name string) (*hypervisorv1.MadeDomain, error) {
	layout, err := r.Driver.DescribeDefinition([]byte(r.m.Definition))
	if err != nil {
		return nil, err
	}
	m := making{
		Service: r.Service, definition: []byte(r.m.Definition), layout: layout, files: filesFor(layout.Disks, name, ""), fill: r.fill, start: r.start, tell: r.tell,
		revision: hypervisor.Revision{UUID: r.NewUUID(), Name: name, MACs: r.newMACs(layout)},
	}
	if m.variables = r.path(r.m.Variables); m.variables != "" {
		m.variablesTarget = variablesFile(layout.Variables, name, m.revision.UUID)
	}
	return m.run(ctx)
}

// furtherVM makes one more VM.
func (r restoring) furtherVM(ctx context.Context, name string) (*hypervisorv1.MadeDomain, error) {
	info, err := r.m.info()
	if err != nil {
		return nil, err
	}
	return r.makeVM(ctx, r.NewUUID(), another(info, name))
}

func (r restoring) makeVM(ctx context.Context, uuid string, info *hypervisorv1.VmInfo) (*hypervisorv1.MadeDomain, error) {
	m := makingVM{Service: r.Service, uuid: uuid, info: info, fill: r.fill, start: r.start, tell: r.tell}
	if file := r.path(r.m.UserData); file != "" {
		var err error
		if m.userData, err = os.ReadFile(file); err != nil {
			return nil, fault.Wrap(err, "user data")
		}
	}
	return m.run(ctx)
}

// vmInPlace gives a VM its disks back, or makes it anew if it is no more.
func (r restoring) vmInPlace(ctx context.Context) (*hypervisorv1.MadeDomain, error) {
	if _, known := r.vm(r.m.DomainUUID); !known {
		info, err := r.m.info()
		if err != nil {
			return nil, err
		}
		back := another(info, info.GetHostname())
		back.Address, back.SecondaryAddresses = proto.CloneOf(info.GetAddress()), info.GetSecondaryAddresses()
		back.OwnerUsers, back.OwnerGroups, back.DestroyProtection = info.GetOwnerUsers(), info.GetOwnerGroups(), info.GetDestroyProtection()
		return r.makeVM(ctx, r.m.DomainUUID, back)
	}
	record, release, err := r.Operations.Acquire(ctx, r.m.DomainUUID)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := r.fits(record); err != nil {
		return nil, err
	}
	w := r.swapping()
	for i, place := range record.GetVolumeLocations() {
		w.Files[i] = stagedBeside(place.GetFilename(), r.m.DomainUUID)
	}
	if err := r.put(ctx, w); err != nil {
		return nil, err
	}
	record, err = r.Operations.Change(ctx, r.m.DomainUUID, func(changed *hypervisorv1.LocalVmInfo) error {
		for i, d := range r.m.Disks {
			changed.VmInfo.Volumes[i].Size = d.Size
		}
		return nil
	})
	if err == nil && r.start {
		r.tell.tell("starting the VM", 0, 0)
		_, err = r.Operations.Resume(ctx, r.m.DomainUUID, 0)
	}
	if err != nil {
		return nil, err
	}
	return r.madeVM(record.GetVmInfo()), nil
}

// fits refuses a VM that cannot take the disks.
func (r restoring) fits(record *hypervisorv1.LocalVmInfo) error {
	info := record.GetVmInfo()
	if info.GetState() != hypervisorv1.State_STATE_STOPPED && info.GetState() != hypervisorv1.State_STATE_CRASHED {
		return fault.New(fault.FailedPrecondition, "VM %s: is not stopped; stop it first, or give a new_name", info.GetUuid())
	}
	disks := volumes(record)
	if len(disks) != len(r.m.Disks) {
		return fault.New(fault.FailedPrecondition, "VM %s: has %d volumes now, and had %d; give a new_name", info.GetUuid(), len(disks), len(r.m.Disks))
	}
	for i, d := range disks {
		if d.Format != r.m.Disks[i].format() {
			return fault.New(fault.FailedPrecondition, "VM %s: volume %d has another format now; give a new_name", info.GetUuid(), i)
		}
	}
	return nil
}
