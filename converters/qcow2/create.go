package qcow2

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Variants that are written.
const (
	variantV3       = "v3"
	variantExtended = "extended-l2"
)

const (
	defaultCluster = 64 << 10
	// defaultExtended has subclusters of 4 KiB.
	defaultExtended = 128 << 10
	minExtended     = 16 << 10
)

// Create begins a qcow2 image in out. CreateOptions.Compression "zlib" and "zstd" make an image of compressed clusters, "" one of plain clusters. Variant
// "extended-l2" divides clusters into 32 subclusters, each of which may be left out.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if err := checkOptions(o); err != nil {
		return nil, err
	}
	cluster, err := chooseCluster(o)
	if err != nil {
		return nil, err
	}
	size, err := o.RoundedSize()
	if err != nil {
		return nil, err
	}
	w := &writer{out: out, size: size, cluster: cluster, extended: o.Variant == variantExtended, backing: o.Backing}
	if err := w.checkHeader(); err != nil {
		return nil, err
	}
	entries := size / w.cover()
	if size%w.cover() != 0 {
		entries++
	}
	if entries > maxL1Bytes/8 {
		return nil, image.Limitf("qcow2: a disk of %d bytes in clusters of %d needs an L1 table of %d entries, more than %d; choose larger clusters",
			w.size, cluster, entries, maxL1Bytes/8)
	}
	w.l1 = make([]uint64, entries)
	w.l1At = cluster
	w.l2 = l2Cache{w: w, limit: max(2, l2Budget/cluster)}
	w.space = newAllocator(w, w.taken())
	if o.Compression == "" {
		return &placer{writer: w}, nil
	}
	return newPacker(w, o)
}

// checkOptions refuses options that a qcow2 image does not have.
func checkOptions(o image.CreateOptions) error {
	err := o.Check("qcow2", image.Abilities{
		Variants: []string{variantV3, variantExtended}, Compressions: []string{"zlib", "zstd"}, Clusters: true, Backing: true, Window: o.Compression == "zlib",
	})
	if err != nil || o.Backing == nil {
		return err
	}
	switch name := o.Backing.Name; {
	case name == "" || len(name) > maxNameLength:
		return fault.New(fault.InvalidArgument, "qcow2: the backing file's name has %d bytes, not 1 to %d", len(name), maxNameLength)
	case o.Backing.Format == "":
		return fault.New(fault.InvalidArgument, "qcow2: the format of the backing file %q is missing; readers do not guess it", name)
	case qemuFormat(o.Backing.Format) == "":
		return image.Unsupportedf("qcow2: a backing file of format %q", o.Backing.Format)
	}
	return nil
}

func chooseCluster(o image.CreateOptions) (int64, error) {
	n, smallest := o.ClusterSize, int64(1<<minClusterBits)
	if o.Variant == variantExtended {
		smallest = minExtended
	}
	if n == 0 {
		n = defaultCluster
		if u := o.SourceUnit; o.Compression != "" && u >= smallest && u <= 1<<maxClusterBits && u&(u-1) == 0 {
			n = u
		} else if o.Compression == "" && o.Variant == variantExtended {
			n = defaultExtended
		}
	}
	if n < smallest || n > 1<<maxClusterBits || n&(n-1) != 0 {
		return 0, fault.New(fault.InvalidArgument, "qcow2: cluster size %d is not a power of two between %d and %d", n, smallest, 1<<maxClusterBits)
	}
	return n, nil
}
