package image

import "io"

// Kind says what an extent of a disk holds.
type Kind uint8

// The kinds of extent.
const (
	// Data is content that must be read.
	Data Kind = iota
	// Zero is known to read as zeros.
	Zero
	// Hole is not allocated: it reads as zeros, or as the parent's content where there is a parent.
	Hole
)

// Extent is a run of one kind. Extents of one disk never overlap.
type Extent struct {
	// Off and Len are in bytes of the virtual disk. Len is at least 1.
	Off, Len int64
	Kind     Kind
	// Host is the offset in In at which the run's plain bytes lie, or -1 where they do not lie in one piece (compressed, encrypted, or no
	// file). In is the file; an image may consist of several. With both the copy may clone instead of read.
	Host int64
	In   File
	// Compressed says that reading costs an inflate; the copy then gives whole units to its workers.
	Compressed bool
}

// Info describes an image. It is complete after opening: no further reads are needed for it.
type Info struct {
	// Format is the format's name: raw, qcow2, vmdk, vhd, vhdx, vdi. Variant is the format's own word (streamOptimized, …) or empty.
	Format, Variant string
	// VirtualSize is the size of the disk the image stands for, in bytes.
	VirtualSize int64
	// FileSize is the size of the image's own file in bytes, or -1 if unknown (a stream).
	FileSize int64
	// Allocated is how much room the file takes on its file system, in bytes; 0 if that is not known. It is filled in by package converters.
	Allocated int64
	// ClusterSize is the unit of allocation in bytes; 0 for raw.
	ClusterSize int64
	// Compression is "", "zlib" or "zstd".
	Compression string
	// SectorSize is the size of the disk's logical sectors in bytes: 512 or 4096; 0 if the format does not say.
	SectorSize int64
	// ContentID is what an image that holds only the differences to this one calls it: a UUID, a content ID; empty if the format has none.
	ContentID string
	// Snapshots are the internal snapshots; Members are the disks of an archive.
	Snapshots []Snapshot
	Members   []string
	// References are other files that the image names (backing file, extents, parent). None is opened unless the caller allows it.
	References []Reference
	// Warnings are oddities that do not stop reading: a dirty flag, a wrong file name in a descriptor.
	Warnings []string
}

// Snapshot is an earlier state of the disk that is kept inside the image.
type Snapshot struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Size is the disk's size at that time, in bytes.
	Size int64 `json:"size"`
	// Time is when it was taken, in seconds since 1970.
	Time int64 `json:"time"`
}

// Reference is another file an image names.
type Reference struct {
	// Kind is backing, data-file, extent or parent.
	Kind string
	// Name is the text in the image, byte for byte. It is attacker-controlled: never open it as it stands.
	Name string
	// Format is the format of the file if the image states one, in Hyperplane's word.
	Format string
}

// Reader is an image that can be read anywhere. ReadAt and NextExtent may be called from several goroutines at once.
// ReadAt reads holes and zero extents as zeros.
type Reader interface {
	io.ReaderAt
	io.Closer
	// Info describes the image.
	Info() Info
	// NextExtent returns the run that begins at off, which is in [0, VirtualSize). Runs are maximal, except that a format may cut very long
	// ones so that one call never takes long. Memory is O(1): tables are read lazily.
	NextExtent(off int64) (Extent, error)
}

// Chunk is a piece of disk content as a stream delivers it, possibly still encoded.
type Chunk struct {
	// Off is the offset in the virtual disk, Len the number of bytes after decoding. Off is a multiple of the stream's ClusterSize.
	Off int64
	Len int
	// Data is the encoded content. It stays valid until Release is called, and Release is called exactly once.
	Data []byte
	// Decode writes the Len decoded bytes to dst, which has at least that length. It may run in another goroutine than the stream's reader.
	// Damage is an error that wraps ErrCorrupt, with the offset.
	Decode func(dst []byte) error
	// Deflate is the raw deflate stream inside Data, without header and checksum, if Data is exactly one such stream that decodes to Len
	// bytes; otherwise nil. A writer of a format with deflate clusters may take it over unchanged.
	Deflate []byte
	// Zstd is the same for a single zstd frame: the bytes from its beginning on, which may go on behind its end.
	Zstd []byte
	// Release gives the buffer back.
	Release func()
}

// Stream is an image that can only be read forward, once. Next returns chunks in no particular order of Off, none twice;
// what no chunk covers is zeros. After the last chunk Next verifies what the format lets it verify (end marker, tables against data)
// and returns io.EOF; a stream that ends early is an error that wraps ErrTruncated, never io.EOF.
type Stream interface {
	io.Closer
	// Info describes the image; FileSize is -1.
	Info() Info
	// Next returns the next chunk. It is called from one goroutine.
	Next() (Chunk, error)
}
