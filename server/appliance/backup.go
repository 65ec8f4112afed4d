package appliance

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	maxDescription = 64 << 10
	// checkpointPrefix marks the checkpoints of machines that are ours.
	checkpointPrefix = "hyperplane-"
)

// CreateBackup implements ApplianceService.
func (s *Service) CreateBackup(req *hypervisorv1.CreateBackupRequest, stream grpc.ServerStreamingServer[hypervisorv1.CreateBackupResponse]) error {
	tell := &teller{now: s.Now, send: func(p *hypervisorv1.ApplianceProgress) error {
		return stream.Send(&hypervisorv1.CreateBackupResponse{Progress: p})
	}}
	m, err := s.backup(stream.Context(), req, tell)
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.CreateBackupResponse{Final: true, Backup: s.described(m)})
}

func (s *Service) backup(ctx context.Context, req *hypervisorv1.CreateBackupRequest, tell *teller) (*manifest, error) {
	if err := checkBackup(req); err != nil {
		return nil, err
	}
	name, err := s.backupName(ctx, req)
	if err != nil {
		return nil, err
	}
	if name == req.GetParent() {
		return nil, fault.New(fault.InvalidArgument, "parent: is the backup itself")
	}
	// Backups are locked before machines, later ones before those that they are based on: so does a restoration.
	for _, locked := range []string{name, req.GetParent()} {
		if locked == "" {
			continue
		}
		unlock, err := s.backups.Lock(ctx, locked)
		if err != nil {
			return nil, fault.Wrap(err, "backup %q: something else is done with it", locked)
		}
		defer unlock()
	}
	if _, err := os.Lstat(s.backupPath(name)); err == nil {
		return nil, fault.New(fault.AlreadyExists, "backup %q: is there already; choose another name", name)
	}
	m, release, err := s.take(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	defer release()
	r := recording{
		Service: s, m: m, dir: filepath.Join(s.BackupDir, makingPrefix+s.NewUUID()), tell: tell,
		manifest: &manifest{
			Version: manifestVersion, Name: name, Domain: m.dom.Name, DomainUUID: m.uuid(), Description: req.GetDescription(), Created: s.Now().UTC(),
			Compressed: req.GetCompress(), Parent: req.GetParent(),
		},
	}
	if req.GetCheckpoint() {
		r.manifest.Checkpoint = checkpointPrefix + name
	}
	if req.GetParent() != "" {
		if r.parent, err = s.parentOf(m, req.GetParent()); err != nil {
			return nil, err
		}
	}
	return r.manifest, fault.Wrap(s.keep(ctx, r, s.backupPath(name)), "backup %q", name)
}

// backupName returns the name that was asked for, or one of the domain's name and the time.
func (s *Service) backupName(ctx context.Context, req *hypervisorv1.CreateBackupRequest) (string, error) {
	if req.GetName() != "" {
		return req.GetName(), nil
	}
	uuid, _, err := s.identify(ctx, req.GetDomain())
	if err != nil {
		return "", err
	}
	base := req.GetDomain()
	if dom, err := s.Driver.FindDomain(ctx, uuid); err == nil {
		base = dom.Name
	}
	name := base + "-" + s.Now().UTC().Format("20060102-150405")
	return name, fault.Wrap(checkName("name", name), "the domain's name makes no name of a backup; give one")
}

func checkBackup(req *hypervisorv1.CreateBackupRequest) error {
	if req.GetName() != "" {
		if err := checkName("name", req.GetName()); err != nil {
			return err
		}
	}
	if len(req.GetDescription()) > maxDescription {
		return fault.New(fault.InvalidArgument, "description: has %d bytes; %d is the most", len(req.GetDescription()), maxDescription)
	}
	if req.GetParent() == "" {
		return nil
	}
	if req.GetCompress() {
		return fault.New(fault.InvalidArgument, "compress: is not available for a backup that is based on another one")
	}
	return checkName("parent", req.GetParent())
}

// parentOf reads the backup that a new one is to be based on.
func (s *Service) parentOf(m *machine, name string) (*manifest, error) {
	chain, err := s.chain(name)
	if err != nil {
		return nil, err
	}
	parent := chain[0]
	same := slices.EqualFunc(parent.Disks, volumesOrDisks(m), func(a manifestDisk, source string) bool { return a.Source == source })
	switch {
	case parent.DomainUUID != m.uuid():
		return nil, fault.New(fault.FailedPrecondition, "parent: backup %q is of domain %q", name, parent.Domain)
	case parent.Checkpoint == "":
		return nil, fault.New(fault.FailedPrecondition, "parent: backup %q has no checkpoint; make a full backup with checkpoint set", name)
	case !same:
		return nil, fault.New(fault.FailedPrecondition, "parent: the domain has other disks than backup %q; make a full backup", name)
	case len(chain) >= maxChain:
		return nil, fault.New(fault.FailedPrecondition, "parent: %d backups are based on each other, which is the most; make a full backup", len(chain))
	}
	return parent, nil
}

func volumesOrDisks(m *machine) (files []string) {
	for _, d := range m.disks {
		files = append(files, d.File)
	}
	return files
}

// keep makes the folder, whole or not at all.
func (s *Service) keep(ctx context.Context, r recording, path string) error {
	return s.do(ctx, work{Source: r.m.uuid(), Folders: []string{r.dir}}, func(ctx context.Context) error {
		if err := os.Mkdir(r.dir, 0o711); err != nil { //nolint:gosec // QEMU may run as another user, who must get through to files that it writes
			return fault.Wrap(err, "working folder")
		}
		err := r.run(ctx)
		if fault.Is(err, fault.NotFound) && r.parent != nil {
			err = fault.As(fault.FailedPrecondition, err, "the domain no longer has the checkpoint of %q; make a full backup", r.parent.Name)
		}
		if err != nil {
			return err
		}
		if err := publishFolder(r.dir, path); err != nil {
			return r.dropCheckpoint(ctx, err)
		}
		return nil
	})
}
