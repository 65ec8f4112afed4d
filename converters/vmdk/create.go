package vmdk

import (
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Create begins a streamOptimized disk in out; it is the only variant that is written.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if o.Variant != "" && o.Variant != "streamOptimized" {
		return nil, image.Unsupportedf("vmdk: variant %q is not written; only streamOptimized", o.Variant)
	}
	if o.Compression != "" && o.Compression != "zlib" {
		return nil, image.Unsupportedf("vmdk: compression %q; streamOptimized disks are compressed with zlib", o.Compression)
	}
	opts := StreamOptions{Level: o.Level, ContentID: o.ContentID, Name: o.Name, GrainSize: o.ClusterSize}
	if n := o.SourceUnit; opts.GrainSize == 0 && n >= minGrain && n < maxGrain && n&(n-1) == 0 {
		opts.GrainSize = n
	}
	return newStreamWriter(io.NewOffsetWriter(out, 0), o.VirtualSize, opts)
}
