package guestfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/guestfs/partition"
)

// Offsets in the superblock of ext2, ext3 and ext4 (linux/Documentation/filesystems/ext4/super.rst).
const (
	superblockAt  = 1024
	superblockLen = 1024
	offMagic      = 0x38
	offLabel      = 0x78
	labelLen      = 16
	extMagic      = 0xEF53
)

// superblock says whether an ext file system begins at an offset, and its label.
func superblock(r io.ReaderAt, off, size int64) (label string, ok bool, err error) {
	if size < superblockAt+superblockLen {
		return "", false, nil
	}
	b, err := readExact(r, superblockLen, off+superblockAt)
	if err != nil || binary.LittleEndian.Uint16(b[offMagic:]) != extMagic {
		return "", false, err
	}
	text, _, _ := bytes.Cut(b[offLabel:offLabel+labelLen], []byte{0})
	return string(text), true, nil
}

// readTable reads a disk's partition table. A file system without a table counts as partition 0 of one that has no kind, also where its boot sector
// looks like a table.
func readTable(r io.ReaderAt, size int64) (partition.Table, error) {
	t, err := partition.Read(r, size)
	if err == nil && t.Kind == partition.GPT {
		return t, nil
	}
	_, whole, superErr := superblock(r, 0, size)
	switch {
	case superErr != nil:
		return t, fault.Wrap(superErr, "volume")
	case whole:
		return partition.Table{Partitions: []partition.Partition{{Size: size / partition.SectorSize * partition.SectorSize}}}, nil
	case errors.Is(err, partition.ErrInvalid):
		return t, fault.As(fault.FailedPrecondition, err, "volume")
	}
	return t, fault.Wrap(err, "volume")
}

// findRoot finds the partition with the root file system.
func findRoot(r io.ReaderAt, size int64, label string) (partition.Partition, error) {
	t, err := readTable(r, size)
	if err != nil {
		return partition.Partition{}, err
	}
	var found []partition.Partition
	for _, p := range t.Partitions {
		l, ok, err := superblock(r, p.Start, p.Size)
		switch {
		case err != nil:
			return p, fault.Wrap(err, "partition %d", p.Number)
		case !ok, label != "" && l != label:
		case label == "" && len(found) == 1:
			if p.Size > found[0].Size {
				found[0] = p
			}
		default:
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return partition.Partition{}, fault.New(fault.FailedPrecondition, "volume: %d file systems have the label %q", len(found), label)
	case label != "":
		return partition.Partition{}, fault.New(fault.FailedPrecondition, "volume: no ext2, ext3 or ext4 file system has the label %q", label)
	}
	return partition.Partition{}, fault.New(fault.FailedPrecondition, "volume: has no ext2, ext3 or ext4 file system")
}
