package qcow2

import (
	"context"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	// maxFindings bounds the report of each severity.
	maxFindings = 1000
	// countedClusters is how many clusters of the file are counted in one pass: 64 MiB of counters, 2 TiB of file in the usual clusters.
	countedClusters = 32 << 20
	// maxPasses bounds the time.
	maxPasses = 64
	// maxCheckedTables bounds the L2 tables that are remembered, maxCheckedL1 the L1 entries of all snapshots together.
	maxCheckedTables = 1 << 20
	maxCheckedL1     = 64 << 20
	// maxRefcountTable is the largest refcount table QEMU loads, in bytes.
	maxRefcountTable = 8 << 20
)

// Check compares the refcounts with what the tables name: those of the current state and of all internal snapshots. Counts that are too high are leaks, as
// for "qemu-img check"; everything else that is wrong is corruption.
func (r *reader) Check(ctx context.Context, report func(image.Finding)) error {
	return r.check(ctx, report, countedClusters)
}

// check counts so many clusters in a pass.
func (r *reader) check(ctx context.Context, report func(image.Finding), perPass int64) error {
	clusters := (r.f.Size() + r.file.cluster() - 1) / r.file.cluster()
	if clusters > maxPasses*countedClusters {
		return image.Limitf("qcow2: a file of %d clusters is too large to be examined; %d are the most", clusters, int64(maxPasses*countedClusters))
	}
	if size := int64(r.file.refClusters) * r.file.cluster(); size > maxRefcountTable {
		return image.Limitf("qcow2: refcount table of %d bytes exceeds %d", size, maxRefcountTable)
	}
	x := &examination{reader: r, ctx: ctx, report: report, clusters: clusters, perPass: perPass}
	if err := x.collect(); err != nil {
		return err
	}
	for x.low = 0; x.low < clusters; x.low += perPass {
		if err := x.pass(); err != nil {
			return err
		}
		x.quiet = true
	}
	return x.checkCopied()
}

// examination is the state of one Check. The clusters of the file are counted in passes; each walks all that names clusters.
type examination struct {
	*reader
	ctx      context.Context //nolint:containedctx // lives as long as the call
	report   func(image.Finding)
	found    [2]int // findings by severity
	clusters int64  // of the file
	perPass  int64  // clusters

	l2      map[int64]uint32 // how often each L2 table is named, by offset
	areas   []area           // what else is in use, besides clusters of content
	quiet   bool             // a pass before has reported what is not about counts
	low     int64            // the first cluster counted in this pass
	counts  []uint16
	entries int64 // of L1 tables, of all snapshots
}

// area is a run of bytes that something uses. Refcounts are of clusters: each cluster it touches is used once.
type area struct{ off, size int64 }

func (x *examination) find(severity image.Severity, off int64, format string, args ...any) {
	if x.found[severity]++; x.found[severity] <= maxFindings {
		x.report(image.Finding{Severity: severity, Offset: off, Text: "qcow2: " + fmt.Sprintf(format, args...)})
	}
}

// corrupt reports what every pass would find again.
func (x *examination) corrupt(off int64, format string, args ...any) {
	if !x.quiet {
		x.find(image.Corruption, off, format, args...)
	}
}

// use adds n users to the clusters that [off, off+size) touches.
func (x *examination) use(off, size int64, n uint32) {
	cluster := x.file.cluster()
	for i := max(off/cluster, x.low); i <= (off+size-1)/cluster && i < x.low+int64(len(x.counts)); i++ {
		x.counts[i-x.low] = uint16(min(uint32(x.counts[i-x.low])+n, 1<<16-1))
	}
}

// pass counts one part of the file and compares.
func (x *examination) pass() error {
	n := min(x.clusters-x.low, x.perPass)
	if x.counts == nil {
		x.counts = make([]uint16, n)
	}
	x.counts = x.counts[:n]
	clear(x.counts)
	for _, a := range x.areas {
		x.use(a.off, a.size, 1)
	}
	if err := x.countTables(); err != nil {
		return err
	}
	if err := x.countRefcounts(); err != nil {
		return err
	}
	return x.compare()
}

// inside reports whether [off, off+size) begins at a cluster and is in the file, whose last cluster need not be whole.
func (x *examination) inside(off, size int64) bool {
	return off >= 0 && off%x.file.cluster() == 0 && off <= x.clusters*x.file.cluster()-size
}
