package appliance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

const (
	// manifestFile is written last into the folder of a backup or template: without it there is none. It may hold secrets of the definition.
	manifestFile    = "manifest.json"
	manifestVersion = 1
	// maxManifest bounds what is read.
	maxManifest = 16 << 20
	// makingPrefix begins the names of folders that are being made, deletedPrefix of those that are being removed.
	makingPrefix  = ".making-"
	deletedPrefix = ".deleted-"
)

// manifest describes a machine that lies in files.
type manifest struct {
	Version     int       `json:"version"`
	Name        string    `json:"name"`
	Domain      string    `json:"domain"`
	DomainUUID  string    `json:"domain_uuid"`
	Description string    `json:"description,omitempty"`
	Created     time.Time `json:"created"`
	Compressed  bool      `json:"compressed,omitempty"`
	// Definition is in the virtualiser's words, of a VM as it was last started. VM is its VmInfo as JSON.
	Definition string          `json:"definition,omitempty"`
	VM         json.RawMessage `json:"vm,omitempty"`
	// Parent is the backup that this one is based on, Checkpoint what the machine calls the moment of this one.
	Parent     string `json:"parent,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"`

	Disks     []manifestDisk `json:"disks"`
	Variables *part          `json:"firmware_variables,omitempty"`
	UserData  *part          `json:"user_data,omitempty"`
}

// part is a file of the folder.
type part struct {
	File   string `json:"file"`
	Bytes  uint64 `json:"file_bytes"`
	SHA256 string `json:"sha256"`
}

// manifestDisk is a disk, whose file is QCOW2.
type manifestDisk struct {
	part
	Target string `json:"target"`
	Source string `json:"source"`
	// Format is that of the machine's file: raw or qcow2.
	Format string `json:"format"`
	Size   uint64 `json:"size"`
}

func (d manifestDisk) format() hypervisor.DiskFormat {
	if d.Format == hypervisor.DiskQCOW2.String() {
		return hypervisor.DiskQCOW2
	}
	return hypervisor.DiskRaw
}

func (m *manifest) managed() bool { return m.VM != nil }

// info returns what a VM was.
func (m *manifest) info() (*hypervisorv1.VmInfo, error) {
	info := new(hypervisorv1.VmInfo)
	if err := protojson.Unmarshal(m.VM, info); err != nil {
		return nil, fault.As(fault.DataLoss, err, "manifest: vm")
	}
	return info, nil
}

// parts returns all files.
func (m *manifest) parts() (all []part) {
	for _, d := range m.Disks {
		all = append(all, d.part)
	}
	for _, p := range []*part{m.Variables, m.UserData} {
		if p != nil {
			all = append(all, *p)
		}
	}
	return all
}

func (m *manifest) bytes() (n uint64) {
	for _, p := range m.parts() {
		n += p.Bytes
	}
	return n
}

// readManifest reads the manifest of a folder, and believes nothing in it that could lead elsewhere.
func readManifest(dir string) (*manifest, error) {
	f, err := os.Open(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return parseManifest(raw)
}

func parseManifest(raw []byte) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(raw, m); err != nil {
		return nil, fault.As(fault.DataLoss, err, "manifest")
	}
	if m.Version != manifestVersion {
		return nil, fault.New(fault.DataLoss, "manifest: is of version %d; this release reads %d", m.Version, manifestVersion)
	}
	for _, p := range m.parts() {
		if err := checkName("manifest: file", p.File); err != nil {
			return nil, fault.As(fault.DataLoss, err, "manifest")
		}
	}
	for _, d := range m.Disks {
		if err := checkName("manifest: target", d.Target); err != nil {
			return nil, fault.As(fault.DataLoss, err, "manifest")
		}
		if !filepath.IsAbs(d.Source) || filepath.Clean(d.Source) != d.Source {
			return nil, fault.New(fault.DataLoss, "manifest: source %q is not a path", d.Source)
		}
	}
	if m.Parent != "" {
		if err := checkName("manifest: parent", m.Parent); err != nil {
			return nil, fault.As(fault.DataLoss, err, "manifest")
		}
	}
	return m, nil
}

// write puts the manifest into a folder.
func (m *manifest) write(dir string) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fault.As(fault.Internal, err, "manifest")
	}
	return fault.Wrap(atomicfile.Write(filepath.Join(dir, manifestFile), append(raw, '\n')), "manifest")
}

// measure fills in what a file has.
func (p *part) measure(ctx context.Context, dir string) error {
	bytes, sum, err := digest(ctx, filepath.Join(dir, p.File))
	p.Bytes, p.SHA256 = bytes, hex.EncodeToString(sum)
	return err
}

// digest reads a file.
func digest(ctx context.Context, path string) (bytes uint64, sum []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	h := sha256.New()
	n, err := io.Copy(h, cancellable{f, ctx.Err})
	return uint64(n), h.Sum(nil), errors.Join(err, f.Close())
}

// cancellable reads until its context ends.
type cancellable struct {
	io.Reader
	ended func() error
}

// Read implements io.Reader.
func (c cancellable) Read(p []byte) (int, error) {
	if err := c.ended(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// publishFolder gives a folder its name. It replaces nothing.
func publishFolder(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.AlreadyExists, "%s exists; choose another name", to)
	}
	if err != nil {
		return fault.Wrap(err, "name a folder")
	}
	return atomicfile.SyncDir(filepath.Dir(to))
}

// removeFolder removes a folder: its name goes at once.
func (s *Service) removeFolder(path string) error {
	gone := filepath.Join(filepath.Dir(path), deletedPrefix+s.NewUUID())
	if err := os.Rename(path, gone); err != nil {
		return fault.Wrap(err, "delete")
	}
	return fault.Wrap(os.RemoveAll(gone), "delete")
}
