package appliance

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// maxChain is how many backups may be based on each other.
const maxChain = 32

// chain returns a backup and those that it is based on, the full one last.
func (s *Service) chain(name string) (chain []*manifest, err error) {
	if err := checkName("backup", name); err != nil {
		return nil, err
	}
	for at := name; at != ""; at = chain[len(chain)-1].Parent {
		m, err := readManifest(s.backupPath(at))
		switch {
		case errors.Is(err, fs.ErrNotExist) && at == name:
			return nil, noBackup(name)
		case errors.Is(err, fs.ErrNotExist):
			return nil, fault.New(fault.DataLoss, "backup %q: backup %q, which it is based on, has gone", name, at)
		case err != nil:
			return nil, fault.Wrap(err, "backup %q", at)
		case m.Name != at || len(chain) == maxChain:
			return nil, fault.New(fault.DataLoss, "backup %q: the manifest of %q is that of %q, or too many are based on each other", name, at, m.Name)
		case len(chain) > 0 && m.DomainUUID != chain[0].DomainUUID:
			return nil, fault.New(fault.DataLoss, "backup %q: backup %q, which it is based on, is of another domain", name, at)
		}
		chain = append(chain, m)
	}
	return chain, nil
}

// lockChain is chain for work during which none of the backups may be deleted.
func (s *Service) lockChain(ctx context.Context, name string) (chain []*manifest, release func(), err error) {
	if err := checkName("backup", name); err != nil {
		return nil, nil, err
	}
	var unlocks []func()
	release = func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}
	for at := name; at != ""; {
		unlock, err := s.backups.Lock(ctx, at)
		if err != nil {
			release()
			return nil, nil, fault.Wrap(err, "backup %q: something else is done with it", at)
		}
		unlocks = append(unlocks, unlock)
		if chain, err = s.chain(name); err != nil {
			release()
			return nil, nil, err
		}
		if at = ""; len(unlocks) < len(chain) {
			at = chain[len(unlocks)].Name
		}
	}
	return chain, release, nil
}

// refs opens what disks of backups are based on: files of other backups, by the one form of name that recording gives them.
type refs struct {
	ctx   context.Context //nolint:containedctx // of the one call
	s     *Service
	depth int
}

// File implements image.References.
func (r refs) File(ref image.Reference) (image.File, error) {
	return nil, image.Referencef("a backup's %s %q is no file of a backup", ref.Kind, ref.Name)
}

// Image implements image.References.
func (r refs) Image(ref image.Reference, format string) (image.Reader, error) {
	parts := strings.Split(ref.Name, "/")
	if len(parts) != 3 || parts[0] != ".." || format != hypervisor.DiskQCOW2.String() || r.depth >= maxChain {
		return nil, image.Referencef("a backup's %s %q is no disk of a backup", ref.Kind, ref.Name)
	}
	for _, p := range parts[1:] {
		if err := checkName("backing file", p); err != nil {
			return nil, err
		}
	}
	return r.s.Formats.Open(r.ctx, filepath.Join(r.s.BackupDir, parts[1], parts[2]), converters.OpenOptions{
		Format: format, OpenOptions: image.OpenOptions{Refs: refs{r.ctx, r.s, r.depth + 1}},
	})
}

// VerifyBackup implements ApplianceService.
func (s *Service) VerifyBackup(ctx context.Context, req *hypervisorv1.VerifyBackupRequest) (*hypervisorv1.VerifyBackupResponse, error) {
	chain, release, err := s.lockChain(ctx, req.GetBackup())
	if err != nil {
		return nil, err
	}
	defer release()
	res := &hypervisorv1.VerifyBackupResponse{Backup: s.described(chain[0])}
	for i, m := range chain {
		if err := s.verify(ctx, m); err != nil {
			return nil, fault.Wrap(err, "backup %q", m.Name)
		}
		if i > 0 {
			res.Chain = append(res.Chain, m.Name)
		}
	}
	return res, nil
}

func (s *Service) verify(ctx context.Context, m *manifest) error {
	if m.Definition == "" && !m.managed() {
		return fault.New(fault.DataLoss, "manifest: has no definition")
	}
	if m.Definition != "" {
		if _, err := s.Driver.DescribeDefinition([]byte(m.Definition)); err != nil {
			return fault.As(fault.DataLoss, err, "manifest")
		}
	}
	if m.managed() {
		if _, err := m.info(); err != nil {
			return err
		}
	}
	for _, p := range m.parts() {
		bytes, sum, err := digest(ctx, filepath.Join(s.backupPath(m.Name), p.File))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return fault.New(fault.DataLoss, "%s: has gone", p.File)
		case err != nil:
			return fault.Wrap(err, "%s", p.File)
		case bytes != p.Bytes || hex.EncodeToString(sum) != p.SHA256:
			return fault.New(fault.DataLoss, "%s: has changed: it had %d bytes with SHA-256 %s and has %d with %x", p.File, p.Bytes, p.SHA256, bytes, sum)
		}
	}
	for _, d := range m.Disks {
		if err := s.openable(ctx, m, d); err != nil {
			return fault.As(fault.DataLoss, err, "%s", d.File)
		}
	}
	return nil
}

// openable reports whether a disk and all that it is based on can be read.
func (s *Service) openable(ctx context.Context, m *manifest, d manifestDisk) error {
	src := s.diskOf(ctx, m, d)
	r, err := s.Formats.Open(ctx, src.path, converters.OpenOptions{Format: src.format.String(), OpenOptions: image.OpenOptions{Refs: src.refs}})
	if err != nil {
		return err
	}
	if size := uint64(r.Info().VirtualSize); size != d.Size {
		err = fault.New(fault.DataLoss, "is a disk of %d bytes, not %d", size, d.Size)
	}
	return errors.Join(err, r.Close())
}

// diskOf returns a disk of a backup, with all that it is based on.
func (s *Service) diskOf(ctx context.Context, m *manifest, d manifestDisk) sourceFile {
	return sourceFile{path: filepath.Join(s.backupPath(m.Name), d.File), format: hypervisor.DiskQCOW2, refs: refs{ctx, s, 1}}
}
