// Package vhdx reads and writes the Virtual Hard Disk v2 format, Hyper-V's format since 2012. The source of its facts is Microsoft's open specification
// [MS-VHDX]; names of structures are the specification's. All numbers are little-endian.
//
// # Files
//
// The first MiB is fixed: the identifier "vhdxfile", two headers at 64 and 128 KiB, two region tables at 192 and 256 KiB. Everything else lies somewhere
// at multiples of a MiB.
//
//   - The header with the higher sequence number counts; the other is the state before. It says where the log is and whether it holds changes, and has
//     the DataWriteGuid, a number that changes with the content: an image of differences remembers its parent's.
//   - The region table says where the metadata and the block allocation table (BAT) are. Both tables hold the same; each has a checksum.
//   - The metadata are items of a GUID each: block size, disk size, sector size, and the parent locator of a differencing disk, a list of keys and values
//     that names the parent.
//   - The BAT has an entry of eight bytes for each block of the disk: a state and the MiB of the file at which the block lies. After each chunk of blocks,
//     as many as have 2^23 sectors, comes the entry of that chunk's sector bitmap, which only a differencing disk uses: a set bit (the least significant bit
//     of a byte is its first sector) is a sector of this file, a clear one is the parent's.
//   - The log holds changes of metadata in pages of 4 KiB that may not have reached their place when the machine stopped. Without them an image that was not
//     closed reads wrong, so they are applied on opening, in memory: the file is never written. Type changes has the details.
//
// # What is refused
//
// An unknown region or item that is marked as required; regions, blocks and bitmaps that overlap; a log that should hold changes and does not; a parent
// with another DataWriteGuid.
//
// # Writing
//
// Disks that are written are dynamic, or fixed: with room for all blocks. The log is empty. Nothing of the front depends on the content but the BAT, whose
// size is known, so blocks follow it in the order in which they come.
package vhdx
