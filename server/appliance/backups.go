package appliance

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
)

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
