package qcow2

import (
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// placer writes images whose clusters hold plain content.
//
// With the source's map known all tables come first, in the order header, L1, refcount table, refcount blocks, L2 tables, and clusters follow in the
// disk's order. Without it clusters and L2 tables are allocated as content arrives, and refcount blocks where their part of the file ends.
type placer struct {
	*writer
	ahead *ahead // not nil after Forward
}

var (
	_ image.Placer    = (*placer)(nil)
	_ image.Planner   = (*placer)(nil)
	_ image.Forwarder = (*placer)(nil)
	_ image.Zeroer    = (*placer)(nil)
)

// Unit returns the cluster size, or the subcluster size.
func (p *placer) Unit() int64 { return p.subcluster() }

// Plan reserves room for all tables that the runs can need, in front of the clusters.
func (p *placer) Plan(runs iter.Seq2[image.Run, error]) error {
	var data, tables int64
	cluster, table := int64(-1), int64(-1) // the last that were counted
	for run, err := range runs {
		if err != nil {
			return err
		}
		end := run.Off + run.Len - 1
		data += end/p.cluster - max(run.Off/p.cluster, cluster+1) + 1
		cluster = end / p.cluster
		for i := max(run.Off/p.cover(), table+1); i <= end/p.cover(); i++ {
			tables++
			if p.ahead != nil {
				p.l1[i] = copied // its place is not known yet
			}
		}
		table = end / p.cover()
	}
	plan := newPlanned(p.writer, p.taken(), tables, data)
	p.space = plan
	if p.ahead != nil {
		return p.ahead.write(plan, runs)
	}
	return nil
}

// Place allocates clusters for [off, off+n), as far as one L2 table maps it.
func (p *placer) Place(off, n int64) (host, placed int64, err error) {
	if p.ahead != nil {
		return p.ahead.place(off, n), n, nil
	}
	table, err := p.l2.get(off / p.cover())
	if err != nil {
		return 0, 0, err
	}
	in := off % p.cover()
	n = min(n, p.cover()-in)
	first, inside := in/p.cluster, in%p.cluster
	if host = table.host(first); host != 0 {
		n = min(n, p.cluster-inside)
	} else {
		fresh := int64(1)
		for fresh < p.clusters(inside+n) && table.host(first+fresh) == 0 {
			fresh++
		}
		if host, err = p.space.data(fresh); err != nil {
			return 0, 0, err
		}
		for i := range fresh {
			table.set(first+i, uint64(host+i*p.cluster)|copied)
		}
		n = min(n, fresh*p.cluster-inside)
	}
	table.mark(in, n, false)
	return host + inside, n, nil
}

// Finish writes the tables and, last, the header.
func (p *placer) Finish() error {
	if p.ahead != nil {
		return p.truncate(p.ahead.end)
	}
	return p.finish()
}
