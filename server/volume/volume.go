// Package volume makes the files of VMs' volumes: empty, from an image in any format, or from a file that exists. It is the only service that
// uses the converters beside the jobs, and the only one that fetches over HTTP.
package volume

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// maxRatio is how many bytes of content an image may yield for each byte read before it is taken for a bomb.
const maxRatio = 1000

// maxVirtualSize is the size of the largest disk, in bytes: that of VHDX.
const maxVirtualSize = 64 << 40

// Maker makes volumes. It implements vm.Volumes.
type Maker struct {
	// Dir holds a directory for each VM, MoreDirs, on further storage devices, one for each VM that has volumes there.
	Dir      string
	MoreDirs []string
	// ImageDir is where images that file URLs name must lie.
	ImageDir string
	Formats  converters.Formats
	Fetch    Fetcher
	// Images are the host's images by name; nil = there are none.
	Images Images
}

// Images finds the host's images.
type Images interface {
	// Locate returns the raw file of an image, which stays as it is until release is called. NotFound if there is none of this name.
	Locate(ctx context.Context, name string) (file string, release func(), err error)
}

var _ vm.Volumes = (*Maker)(nil)

// Directory implements vm.Volumes.
func (m *Maker) Directory(uuid string) (string, error) { return m.VolumeDirectory(uuid, 0) }

// Storages implements vm.Volumes.
func (m *Maker) Storages() int { return 1 + len(m.MoreDirs) }

// VolumeDirectory implements vm.Volumes.
func (m *Maker) VolumeDirectory(uuid string, storage int) (string, error) {
	if storage < 0 || storage >= m.Storages() {
		return "", fault.New(fault.InvalidArgument, "storage device %d: this host has %d, from 0: see ListVolumeDirectories", storage, m.Storages())
	}
	dir := filepath.Join(m.Dir, uuid)
	if storage > 0 {
		dir = filepath.Join(m.MoreDirs[storage-1], uuid)
	}
	return dir, fault.Wrap(os.MkdirAll(dir, 0o711), "volume directory") //nolint:gosec // the virtualiser may run as another user; it must get through to the files
}

// RemoveDirectory implements vm.Volumes.
func (m *Maker) RemoveDirectory(uuid string) error {
	if uuid == "" || filepath.Base(uuid) != uuid {
		return fault.New(fault.Internal, "volume directory of %q: not a VM's UUID", uuid)
	}
	var errs []error
	for _, dir := range append([]string{m.Dir}, m.MoreDirs...) {
		errs = append(errs, fault.Wrap(os.RemoveAll(filepath.Join(dir, uuid)), "volume directory"))
	}
	return errors.Join(errs...)
}

// Empty implements vm.Volumes.
func (m *Maker) Empty(ctx context.Context, v vm.VolumeSpec) (uint64, error) {
	return m.write(ctx, zeros(0), v)
}

// FromReader implements vm.Volumes. The image is spooled first: most formats can not be read from front to back.
func (m *Maker) FromReader(ctx context.Context, r io.Reader, size uint64, v vm.VolumeSpec) (uint64, error) {
	if size > math.MaxInt64 {
		return 0, fault.New(fault.InvalidArgument, "image: %d bytes are too many", size)
	}
	spool, err := m.spool(ctx, r, int64(size), v)
	if err != nil {
		return 0, err
	}
	defer os.Remove(spool) //nolint:errcheck // the file is below the VM's directory, which goes with it
	return m.fromFile(ctx, spool, v)
}

// FromURL implements vm.Volumes.
func (m *Maker) FromURL(ctx context.Context, url string, v vm.VolumeSpec) (uint64, error) {
	path, local, err := m.localImage(url)
	if err != nil {
		return 0, err
	}
	if local {
		return m.fromFile(ctx, path, v)
	}
	body, size, err := m.Fetch.Open(ctx, url)
	if err != nil {
		return 0, err
	}
	spool, err := m.spool(ctx, body, size, v)
	if err = errors.Join(err, body.Close()); err != nil {
		return 0, fault.Wrap(err, "image %s", url)
	}
	defer os.Remove(spool) //nolint:errcheck // as above
	return m.fromFile(ctx, spool, v)
}

// FromImage implements vm.Volumes.
func (m *Maker) FromImage(ctx context.Context, name string, v vm.VolumeSpec) (uint64, error) {
	if m.Images == nil {
		return 0, fault.New(fault.Unimplemented, "image %q: this host keeps no images by name; give a URL", name)
	}
	file, release, err := m.Images.Locate(ctx, name)
	if err != nil {
		return 0, err
	}
	defer release()
	v.Raw = true
	return m.fromFile(ctx, file, v)
}

// fromFile converts the image at path into the volume.
func (m *Maker) fromFile(ctx context.Context, path string, v vm.VolumeSpec) (uint64, error) {
	var open converters.OpenOptions
	if v.Raw {
		open.Format = "raw"
	}
	src, err := m.Formats.Open(ctx, path, open)
	if err != nil {
		return 0, fault.Wrap(err, "image")
	}
	size, err := m.write(ctx, src, v)
	return size, errors.Join(err, src.Close())
}

// write makes the volume's file with the content of src, as large as the spec says.
func (m *Maker) write(ctx context.Context, src image.Reader, v vm.VolumeSpec) (uint64, error) {
	size := wanted(uint64(src.Info().VirtualSize), v)
	if size > math.MaxInt64 {
		return 0, fault.New(fault.InvalidArgument, "volume: %d bytes are too many", size)
	}
	err := converters.WriteFile(ctx, v.File, false, func(ctx context.Context, f *os.File) error {
		target := converters.Target{Format: formatName(v.Format), Out: f, Name: filepath.Base(v.File)}
		_, err := m.Formats.Convert(ctx, converters.Source{Reader: grown{src, int64(size)}}, target, converters.Options{MaxRatio: maxRatio, MaxVirtualSize: maxVirtualSize})
		return err
	})
	return size, err
}

// wanted is the size of a volume for an image of the given size.
func wanted(imageSize uint64, v vm.VolumeSpec) uint64 {
	unit := uint64(1) << v.RoundupPower
	size := max(imageSize+v.MinimumFree, v.Size)
	size = (size + unit - 1) / unit * unit
	const sector = 512
	return (size + sector - 1) / sector * sector
}

func formatName(f hypervisorv1.VolumeFormat) string {
	if f == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
		return "qcow2"
	}
	return "raw"
}

// Adopt implements vm.Volumes: by a second link where both lie on one file system, otherwise by copying.
func (m *Maker) Adopt(ctx context.Context, file string, v vm.VolumeSpec) (uint64, error) {
	src, err := m.Formats.Open(ctx, file, converters.OpenOptions{Format: formatName(v.Format)})
	if err != nil {
		return 0, err
	}
	size := uint64(src.Info().VirtualSize)
	err = os.Link(file, v.File)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) {
		_, err = m.write(ctx, src, v)
	}
	return size, errors.Join(fault.Wrap(err, "volume"), src.Close())
}
