// Package vhd reads and writes Microsoft's Virtual Hard Disk format, the format of Virtual PC, of Hyper-V before 2012, of Azure and of Xen.
// The source of its facts is Microsoft's "Virtual Hard Disk Image Format Specification", version 1.0 of 2006. All numbers are big-endian.
//
// # Files
//
// Each file ends with a footer of 512 bytes: the word "conectix", the disk's size, its geometry, a unique id, a checksum, and which of the three kinds
// the file is. Old versions of Virtual PC left the footer's last byte out.
//
//   - A fixed disk is the disk's bytes and then the footer. Nothing is in front, so only the end of the file tells it from a raw disk.
//   - A dynamic disk begins with a copy of the footer. It points to the header ("cxsparse"), which points to the block allocation table. The table has
//     an entry of four bytes for each block of the disk, usually 2 MiB: the sector of the file at which the block lies, or 0xffffffff if it was never
//     written and reads as zeros. A block in the file begins with its bitmap, a bit for each sector, padded to a whole sector. Of a dynamic disk all
//     sectors of an allocated block are content, whatever the bitmap says.
//   - A differencing disk looks the same, but its bitmaps count: a set bit (the most significant bit of a byte is its first sector) is a sector of this
//     file, a clear one is the parent's, and so is a block that is not allocated. The header has the parent's unique id and its name in several forms.
//
// # The size of a disk
//
// The footer states the size twice: in bytes ("current size") and as cylinders, heads and sectors. Geometries are coarse, so the two differ. Virtual PC
// and old versions of QEMU go by the geometry, everybody else by the bytes; footer.virtualSize has the rule and image.SizeRule overrules it.
//
// # Writing
//
// Disks that are written keep their exact size in both readings: the creator is one whose geometry no reader believes. Blocks are placed such that
// their content, which follows 512 bytes of bitmap, begins at a multiple of 4 KiB: then it can be cloned.
package vhd
