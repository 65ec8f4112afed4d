package appliance

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
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
	m, release, err := s.take(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	defer release()
	name := req.GetName()
	if name == "" {
		name = m.dom.Name + "-" + s.Now().UTC().Format("20060102-150405")
		if err := checkName("name", name); err != nil {
			return nil, fault.Wrap(err, "the domain's name makes no name of a backup; give one")
		}
	}
	unlock, err := s.backups.Lock(ctx, name)
	if err != nil {
		return nil, fault.Wrap(err, "backup %q: something else is done with it", name)
	}
	defer unlock()
	if _, err := os.Lstat(s.backupPath(name)); err == nil {
		return nil, fault.New(fault.AlreadyExists, "backup %q: is there already; choose another name", name)
	}
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
		unlock, err := s.backups.Lock(ctx, req.GetParent())
		if err != nil {
			return nil, fault.Wrap(err, "backup %q: something else is done with it", req.GetParent())
		}
		defer unlock()
		if r.parent, err = s.parentOf(m, req.GetParent()); err != nil {
			return nil, err
		}
	}
	return r.manifest, fault.Wrap(s.keep(ctx, r, s.backupPath(name)), "backup %q", name)
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
	if req.GetParent() == req.GetName() {
		return fault.New(fault.InvalidArgument, "parent: is the backup itself")
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

func (s *Service) backupPath(name string) string { return filepath.Join(s.BackupDir, name) }

// described is a backup as callers see it.
func (s *Service) described(m *manifest) *hypervisorv1.Backup {
	b := &hypervisorv1.Backup{
		Name: m.Name, Domain: m.Domain, DomainUuid: m.DomainUUID, Managed: m.managed(), CreatedOn: timestamppb.New(m.Created), Description: m.Description,
		Parent: m.Parent, Compressed: m.Compressed, Checkpoint: m.Checkpoint != "", Path: s.backupPath(m.Name), FileBytes: m.bytes(),
	}
	for _, d := range m.Disks {
		sum, _ := hex.DecodeString(d.SHA256) // verification tells
		b.Disks = append(b.Disks, &hypervisorv1.BackupDisk{Target: d.Target, Source: d.Source, File: d.File, Size: d.Size, FileBytes: d.Bytes, Sha256: sum})
	}
	return b
}

// manifests returns all backups, in the order of their names. Folders without a manifest that can be read are none.
func (s *Service) manifests() (all []*manifest, err error) {
	entries, err := os.ReadDir(s.BackupDir)
	if err != nil {
		return nil, fault.Wrap(err, "backups")
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if m, err := readManifest(s.backupPath(e.Name())); err == nil && m.Name == e.Name() {
			all = append(all, m)
		}
	}
	return all, nil
}

// ListBackups implements ApplianceService.
func (s *Service) ListBackups(_ context.Context, req *hypervisorv1.ListBackupsRequest) (*hypervisorv1.ListBackupsResponse, error) {
	manifests, err := s.manifests()
	if err != nil {
		return nil, err
	}
	var all []*hypervisorv1.Backup
	for _, m := range manifests {
		if ref := req.GetDomain(); ref == "" || ref == m.Domain || ref == m.DomainUUID {
			all = append(all, s.described(m))
		}
	}
	some, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.Backup).GetName)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListBackupsResponse{Backups: some, NextPageToken: next}, nil
}

// DeleteBackup implements ApplianceService. A backup whose manifest is broken can be deleted too.
func (s *Service) DeleteBackup(ctx context.Context, req *hypervisorv1.DeleteBackupRequest) (*hypervisorv1.DeleteBackupResponse, error) {
	name := req.GetBackup()
	if err := checkName("backup", name); err != nil {
		return nil, err
	}
	unlock, err := s.backups.Lock(ctx, name)
	if err != nil {
		return nil, fault.Wrap(err, "backup %q: something else is done with it", name)
	}
	defer unlock()
	st, err := os.Lstat(s.backupPath(name))
	if err != nil || !st.IsDir() {
		return nil, noBackup(name)
	}
	all, err := s.manifests()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.Parent == name && !req.GetForce() {
			return nil, fault.New(fault.FailedPrecondition, "backup %q: backup %q is based on it; delete that first, or use force", name, m.Name)
		}
	}
	if m, err := readManifest(s.backupPath(name)); err == nil && m.Checkpoint != "" {
		// A machine that is off keeps the note of what has changed, which costs little and disturbs nothing.
		_ = s.Driver.DropCheckpoint(ctx, m.DomainUUID, m.Checkpoint)
	}
	return &hypervisorv1.DeleteBackupResponse{}, fault.Wrap(s.removeFolder(s.backupPath(name)), "backup %q", name)
}

func noBackup(name string) error {
	return fault.New(fault.NotFound, "backup %q: does not exist; list them with ListBackups", name)
}
