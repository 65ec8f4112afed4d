package vmdk

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
)

// The variants that are written, by VMware's words (createType).
const (
	streamOptimized      = "streamOptimized"
	monolithicSparse     = "monolithicSparse"
	monolithicFlat       = "monolithicFlat"
	twoGbMaxExtentSparse = "twoGbMaxExtentSparse"
	twoGbMaxExtentFlat   = "twoGbMaxExtentFlat"
)

// abilities are the options that a variant can honour.
func abilities(variant string) image.Abilities {
	can := image.Abilities{Variants: []string{streamOptimized, monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat}}
	switch variant {
	case "", streamOptimized:
		can.Compressions, can.Clusters = []string{"zlib"}, true
	case monolithicSparse, twoGbMaxExtentSparse:
		can.Clusters = true
	}
	return can
}

// Create begins a disk in out: streamOptimized unless another variant is named. Variants of several files put the descriptor into out and the content
// into siblings of it.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if err := o.Check("vmdk", abilities(o.Variant)); err != nil {
		return nil, err
	}
	opts := StreamOptions{Level: o.Level, ContentID: o.ContentID, Name: o.Name, GrainSize: o.ClusterSize}
	if o.Variant == "" || o.Variant == streamOptimized {
		if n := o.SourceUnit; opts.GrainSize == 0 && n >= minGrain && n < maxGrain && n&(n-1) == 0 {
			opts.GrainSize = n
		}
		return newStreamWriter(out, o.VirtualSize, opts)
	}
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	size, err := o.RoundedSize()
	if err != nil {
		return nil, err
	}
	switch o.Variant {
	case monolithicSparse:
		return newSparseWriter(out, size, opts)
	case twoGbMaxExtentSparse:
		return newSplitWriter(out, size, opts, o.Sibling)
	default:
		return newFlatWriter(out, size, o.Variant, opts, o.Sibling)
	}
}
