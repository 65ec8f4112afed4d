package appliance

import (
	"context"
	"errors"
	"os"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// capture is the copying of a machine's disks as they are at one moment: by the virtualiser while it is alive, otherwise by reading the files.
type capture struct {
	*Service
	m *machine
	// to are the files to be made, which must not exist, in the order of the disks; formats are theirs.
	to      []string
	formats []hypervisor.DiskFormat
	// bases say what the copies are based on, for a copy of what changed since a checkpoint.
	bases             []string
	since, checkpoint string
	compress          bool
	tell              *teller
}

func (c capture) run(ctx context.Context) error {
	if c.m.dom.State.Alive() {
		return fault.Wrap(c.live(ctx), "domain %q: copy its disks", c.m.dom.Name)
	}
	if c.since != "" || c.checkpoint != "" {
		return fault.New(fault.FailedPrecondition, "domain %q: is %s; what changes can be noted, and copied, only while it runs", c.m.dom.Name, c.m.dom.State)
	}
	for i, d := range c.m.disks {
		src := sourceFile{path: d.File, format: d.Format, sameFolder: true}
		err := c.copyFile(ctx, src, c.to[i], c.formats[i], c.compress, c.tell.about("copying disk "+d.Target))
		if err != nil {
			return fault.Wrap(err, "domain %q: disk %s", c.m.dom.Name, d.Target)
		}
	}
	return nil
}

// plainSuffix marks copies that are to be compressed.
const plainSuffix = ".plain"

func (c capture) live(ctx context.Context) (err error) {
	wish := hypervisor.DiskCopies{Since: c.since, Checkpoint: c.checkpoint, Progress: c.tell.about("copying the disks")}
	for i, d := range c.m.disks {
		copied := hypervisor.DiskCopy{File: d.File, To: c.to[i], Format: c.formats[i]}
		if c.compress {
			copied.To += plainSuffix
		}
		if c.bases != nil {
			copied.Base = c.bases[i]
		}
		wish.Disks = append(wish.Disks, copied)
	}
	if len(wish.Disks) == 0 {
		return nil
	}
	if err := c.Driver.CopyDisks(ctx, c.m.uuid(), wish); err != nil || !c.compress {
		return err
	}
	for i, copied := range wish.Disks {
		if err == nil {
			err = c.copyFile(ctx, sourceFile{path: copied.To, format: copied.Format}, c.to[i], c.formats[i], true, c.tell.about("compressing disk "+c.m.disks[i].Target))
		}
		err = errors.Join(err, os.Remove(copied.To))
	}
	if err != nil && c.checkpoint != "" {
		err = errors.Join(err, c.Driver.DropCheckpoint(context.WithoutCancel(ctx), c.m.uuid(), c.checkpoint))
	}
	return err
}

// sourceFile is a disk in a file.
type sourceFile struct {
	path   string
	format hypervisor.DiskFormat
	// sameFolder lets it be based on files in its folder, refs on others; without, it must stand alone.
	sameFolder bool
	refs       image.References
}

// copyFile makes a new file with the content of a disk, or none. Holes stay holes, and blocks are shared where the file system can.
func (s *Service) copyFile(
	ctx context.Context, src sourceFile, to string, format hypervisor.DiskFormat, compress bool, progress func(done, total uint64),
) (err error) {
	r, err := s.Formats.Open(ctx, src.path, converters.OpenOptions{
		Format: src.format.String(), SameFolder: src.sameFolder, OpenOptions: image.OpenOptions{Refs: src.refs},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fault.Wrap(err, "copy")
	}
	target := converters.Target{Format: format.String(), Out: f}
	if compress && format == hypervisor.DiskQCOW2 {
		target.Compression = "zlib"
	}
	_, err = s.Formats.Convert(ctx, converters.Source{Reader: r}, target, converters.Options{
		Progress: func(p converters.Progress) { progress(uint64(p.Virtual), uint64(p.VirtualSize)) },
	})
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// diskSize returns the size of the disk in a file, in bytes.
func (s *Service) diskSize(path string, format hypervisor.DiskFormat) (uint64, error) {
	info, err := s.Formats.Inspect(path, converters.OpenOptions{Format: format.String()})
	return uint64(info.VirtualSize), err
}
