package guestfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/guestfs/partition"
)

// alignment is what the ends of partitions are rounded down to: file systems have blocks of up to 64 KiB.
const alignment = 1 << 20

// ending is the last part of a disk.
type ending struct {
	table partition.Table
	partition.Partition
	ext bool
}

func lastPart(d *openedDisk) (e ending, found bool, err error) {
	e.table, err = readTable(d, d.size)
	if err != nil {
		return e, false, err
	}
	if e.Partition, found = e.table.Last(); !found {
		return e, false, nil
	}
	_, e.ext, err = superblock(d, e.Start, e.Size)
	return e, true, fault.Wrap(err, "volume")
}

// grow has the last file system reach to the end of the disk.
func grow(ctx context.Context, d *openedDisk, send func(reply) error) error {
	e, found, err := lastPart(d)
	if err != nil || !found || !e.ext || (e.table.Kind == partition.MBR && e.Number > 4) {
		return err
	}
	// Before anything is changed.
	if err := checkFilesystem(ctx, d, e.Partition); err != nil {
		return err
	}
	size := e.Size
	if e.table.Kind != partition.None {
		end := max(e.Start+e.Size, e.table.Room(d.size)/alignment*alignment)
		// Also where the partition stays as it is: the backup of a GPT belongs at the end.
		if err := e.table.SetEnd(d, e.Number, end, d.size); err != nil {
			return fault.As(fault.FailedPrecondition, err, "volume")
		}
		if err := d.Sync(); err != nil {
			return fault.Wrap(err, "volume")
		}
		size = end - e.Start
	}
	if err := resizeFilesystem(ctx, d, e.Start, size, 0); err != nil {
		return err
	}
	return send(reply{Grown: true})
}

// shrink makes room behind size.
func shrink(ctx context.Context, d *openedDisk, size int64) error {
	if size > d.size {
		return fault.New(fault.InvalidArgument, "size: %d bytes are more than the disk's %d", size, d.size)
	}
	e, found, err := lastPart(d)
	if err != nil {
		return err
	}
	if !found {
		return fault.New(fault.FailedPrecondition, "volume: has no file system that could be made smaller")
	}
	if e.table.Kind == partition.None {
		if err := checkFilesystem(ctx, d, e.Partition); err != nil {
			return err
		}
		return resizeFilesystem(ctx, d, 0, e.Size, size)
	}
	end := e.Start + e.Size
	if room := e.table.Room(size); end > room {
		end = room / alignment * alignment
		switch {
		case !e.ext:
			return fault.New(fault.FailedPrecondition, "volume: its last partition, %d, has no ext2, ext3 or ext4 file system, so it can not be made smaller", e.Number)
		case end <= e.Start:
			return fault.New(fault.FailedPrecondition, "volume: its last partition, %d, begins behind the new end", e.Number)
		case e.table.Kind == partition.MBR && e.Number > 4:
			return fault.New(fault.FailedPrecondition, "volume: its last partition, %d, is a logical one, which can not be made smaller", e.Number)
		}
		err := checkFilesystem(ctx, d, e.Partition)
		if err == nil {
			err = resizeFilesystem(ctx, d, e.Start, e.Size, end-e.Start)
		}
		if err != nil {
			return err
		}
	}
	if e.table.Kind == partition.MBR && end == e.Start+e.Size {
		return nil
	}
	return fault.As(fault.FailedPrecondition, e.table.SetEnd(d, e.Number, end, size), "volume")
}

// checkFilesystem goes over all of a file system, as resize2fs(8) wants it.
func checkFilesystem(ctx context.Context, d *openedDisk, p partition.Partition) error {
	return onDevice(d, p.Start, p.Size, func(device string) error { return repair(ctx, device, "-f") })
}

// resizeFilesystem gives the checked file system in a part of a disk a size in bytes; 0 = that of the part.
func resizeFilesystem(ctx context.Context, d *openedDisk, offset, length, size int64) error {
	return onDevice(d, offset, length, func(device string) error {
		args := []string{device}
		if size > 0 {
			args = append(args, strconv.FormatInt(size/1024, 10)+"K")
		}
		_, err := procexec.Runner{}.Run(ctx, procexec.Command{Program: tool("resize2fs"), Args: args})
		if _, failed := errors.AsType[*procexec.ExitError](err); failed {
			return fault.As(fault.FailedPrecondition, err, "the guest's file system can not be resized")
		}
		return err
	})
}

// onDevice shows a part of a disk as a device.
func onDevice(d *openedDisk, offset, length int64, do func(device string) error) error {
	device, err := attachLoop(d, offset, length)
	if err != nil {
		return err
	}
	return errors.Join(do(device.Name()), closeDevice(device))
}

func closeDevice(device *os.File) error {
	return fault.Wrap(join(device.Sync(), device.Close()), "loop device")
}

// maxLabel is the length of an ext4 file system's label in bytes.
const maxLabel = 16

func (o makeOptions) check() error {
	switch {
	case o.Label == "" || len(o.Label) > maxLabel:
		return fault.New(fault.InvalidArgument, "label: must have 1 to %d bytes, this one has %d", maxLabel, len(o.Label))
	case o.BytesPerInode != 0 && (o.BytesPerInode < 1024 || o.BytesPerInode > 64<<20):
		return fault.New(fault.InvalidArgument, "bytes_per_inode: %d is not between 1024 and %d", o.BytesPerInode, 64<<20)
	case o.ReservedPercent > 50:
		return fault.New(fault.InvalidArgument, "reserved_blocks_percentage: %d is more than 50", o.ReservedPercent)
	}
	return nil
}

// makeFilesystem makes an ext4 file system (mke2fs(8)).
func makeFilesystem(ctx context.Context, d *openedDisk, o makeOptions) error {
	return onDevice(d, 0, d.size/partition.SectorSize*partition.SectorSize, func(device string) error {
		args := []string{
			"-t", "ext4", "-q", "-F", "-L", o.Label, "-m", strconv.FormatUint(uint64(o.ReservedPercent), 10),
			"-E", fmt.Sprintf("root_owner=%d:%d", o.OwnerID, o.GroupID),
		}
		if o.BytesPerInode > 0 {
			args = append(args, "-i", strconv.FormatUint(o.BytesPerInode, 10))
		}
		_, err := procexec.Runner{}.Run(ctx, procexec.Command{Program: tool("mke2fs"), Args: args, Operands: []string{device}})
		if _, failed := errors.AsType[*procexec.ExitError](err); failed {
			return fault.As(fault.FailedPrecondition, err, "the file system can not be made")
		}
		return err
	})
}
