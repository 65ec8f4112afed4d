package hypervisor

import (
	"context"
	"io"
)

// PoolState is what a storage pool does.
type PoolState uint8

// The states of pools.
const (
	PoolInactive PoolState = iota
	PoolBuilding
	PoolRunning
	PoolDegraded
	PoolInaccessible
)

// StoragePool is a place with volumes. Sizes are in bytes and known while it is active.
type StoragePool struct {
	Name, UUID                      string
	State                           PoolState
	Type, Path                      string
	Capacity, Allocation, Available uint64
	Autostart, Persistent           bool
}

// StoragePoolSpec is the wish for a pool of a directory. The directory is made if it is missing, its parent is not.
type StoragePoolSpec struct {
	Name, Path string
	Autostart  bool
}

// StoragePools manages pools, which are named by their names.
type StoragePools interface {
	// ListPools returns all pools in the order of their names.
	ListPools(ctx context.Context) ([]StoragePool, error)
	GetPool(ctx context.Context, name string) (StoragePool, error)
	// CreatePool makes and starts a pool. AlreadyExists if the name or the directory belongs to another one.
	CreatePool(ctx context.Context, spec StoragePoolSpec) error
	// StartPool starts a pool, StopPool stops it; one that does so already is no error. Volumes stay.
	StartPool(ctx context.Context, name string) error
	StopPool(ctx context.Context, name string) error
	// RefreshPool looks for volumes that came or went.
	RefreshPool(ctx context.Context, name string) error
	// DeletePool stops and forgets a pool. Directory and files stay.
	DeletePool(ctx context.Context, name string) error
}

// StorageVolume is a volume of a pool. Sizes are in bytes.
type StorageVolume struct {
	Pool, Name, Path     string
	Type, Format         string
	Capacity, Allocation uint64
	// BackingPath is the file that it is based on; empty = none.
	BackingPath string
}

// StorageVolumeSpec is the wish for a volume.
type StorageVolumeSpec struct {
	Pool, Name string
	Format     DiskFormat
	Capacity   uint64
	// Preallocate takes the space at once: all of it for raw, that of the tables for QCOW2.
	Preallocate bool
}

// WipeAlgorithm is a way to overwrite a volume, in libvirt's words: zero, nnsa, dod, bsi, gutmann, schneier, pfitzner7, pfitzner33, random, trim.
type WipeAlgorithm string

// StorageVolumes manages the volumes of pools that are active; FailedPrecondition for others. Whether a machine uses a volume is the caller's to know.
type StorageVolumes interface {
	// ListVolumes returns a pool's volumes in the order of their names.
	ListVolumes(ctx context.Context, pool string) ([]StorageVolume, error)
	GetVolume(ctx context.Context, pool, name string) (StorageVolume, error)
	CreateVolume(ctx context.Context, spec StorageVolumeSpec) error
	// CloneVolume makes a volume of the same format with the content of another. After an error, or when ctx ends, there is none.
	CloneVolume(ctx context.Context, pool, name, targetPool, target string) error
	// ResizeVolume changes the capacity. InvalidArgument for less than it is, unless shrink is set.
	ResizeVolume(ctx context.Context, pool, name string, capacity uint64, shrink bool) error
	DeleteVolume(ctx context.Context, pool, name string) error
	WipeVolume(ctx context.Context, pool, name string, algorithm WipeAlgorithm) error
	// UploadVolume writes r into a volume from its beginning and returns how many bytes that were. OutOfRange if they do not fit.
	UploadVolume(ctx context.Context, pool, name string, r io.Reader) (uint64, error)
	// DownloadVolume writes a volume's bytes from offset on to w; length 0 = to its end.
	DownloadVolume(ctx context.Context, pool, name string, w io.Writer, offset, length uint64) error
}
