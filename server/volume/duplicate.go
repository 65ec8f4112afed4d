package volume

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/converters"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Duplicate makes the file to with the content of the file from, whatever that is, and returns how many bytes of it are no holes. Blocks are shared
// where the file system can. A file of this name is replaced when the copy is complete.
func (m *Maker) Duplicate(ctx context.Context, from, to string) (uint64, error) {
	src, err := m.Formats.Open(ctx, from, converters.OpenOptions{Format: "raw"})
	if err != nil {
		return 0, err
	}
	var result converters.Result
	err = converters.WriteFile(ctx, to, true, func(ctx context.Context, f *os.File) (err error) {
		target := converters.Target{Format: "raw", Out: f, Name: filepath.Base(to)}
		result, err = m.Formats.Convert(ctx, converters.Source{Reader: src}, target, converters.Options{})
		return err
	})
	return uint64(result.Data), errors.Join(err, src.Close())
}

// Size returns the size of the disk in a volume's file, in bytes.
func (m *Maker) Size(ctx context.Context, file string, format hypervisorv1.VolumeFormat) (uint64, error) {
	src, err := m.Formats.Open(ctx, file, converters.OpenOptions{Format: formatName(format)})
	if err != nil {
		return 0, err
	}
	return uint64(src.Info().VirtualSize), src.Close()
}

// Grow makes the disk in a volume's file larger. A raw file is lengthened; a qcow2 file, whose tables may lie anywhere, is written anew, with shared blocks
// where the file system can.
func (m *Maker) Grow(ctx context.Context, file string, format hypervisorv1.VolumeFormat, size uint64) error {
	if formatName(format) == "raw" {
		return fault.Wrap(os.Truncate(file, int64(size)), "grow")
	}
	src, err := m.Formats.Open(ctx, file, converters.OpenOptions{Format: formatName(format)})
	if err != nil {
		return err
	}
	err = converters.WriteFile(ctx, file, true, func(ctx context.Context, f *os.File) error {
		target := converters.Target{Format: formatName(format), Out: f, Name: filepath.Base(file)}
		_, err := m.Formats.Convert(ctx, converters.Source{Reader: grown{src, int64(size)}}, target, converters.Options{})
		return err
	})
	return errors.Join(err, src.Close())
}
