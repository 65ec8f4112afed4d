package qcow2

import (
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// ahead writes all metadata before the content, from the plan alone.
type ahead struct {
	w    *writer
	last int64 // the cluster of the disk that was placed last
	host int64 // and its place
	end  int64 // of the file
}

// Forward makes Plan write all metadata. An image of differences cannot be written so: which zeros hide something is known only with the content.
func (p *placer) Forward() error {
	if p.backing != nil {
		return image.Unsupportedf("qcow2: an image with a backing file is not written front to back; write a file")
	}
	p.ahead = &ahead{w: p.writer, last: -1}
	return nil
}

// write writes the metadata in the order in which it lies in the file.
func (a *ahead) write(plan *planned, runs iter.Seq2[image.Run, error]) error {
	w := a.w
	at := plan.tablesNext
	for i, entry := range w.l1 {
		if entry != 0 {
			w.l1[i] = uint64(at) | copied
			at += w.cluster
		}
	}
	plan.tablesNext = plan.tablesEnd
	a.end = plan.dataEnd
	a.host = plan.tablesEnd - w.cluster
	if err := w.writeAt(w.header(plan.refcounts, plan.refTable), 0); err != nil {
		return err
	}
	if err := w.writeAt(encodeTable(w.l1), w.l1At); err != nil {
		return err
	}
	if err := plan.writeRefcounts(a.end); err != nil {
		return err
	}
	return a.writeTables(plan.tablesEnd, runs)
}

// writeTables writes the L2 tables one after the other. host is the place of the first cluster.
func (a *ahead) writeTables(host int64, runs iter.Seq2[image.Run, error]) error {
	w := a.w
	t := &l2Table{w: w, index: -1, b: make([]byte, w.cluster)}
	last := int64(-1)
	for run, err := range runs {
		if err != nil {
			return err
		}
		for run.Len > 0 {
			if i := run.Off / w.cover(); i != t.index {
				if err := w.l2.write(t); err != nil {
					return err
				}
				clear(t.b)
				t.index = i
			}
			in := run.Off % w.cover()
			part := min(run.Len, w.cluster-in%w.cluster)
			if c := run.Off / w.cluster; c != last {
				t.set(in/w.cluster, uint64(host)|copied)
				last = c
				host += w.cluster
			}
			t.mark(in, part, false)
			run.Off, run.Len = run.Off+part, run.Len-part
		}
	}
	return w.l2.write(t)
}

// place returns the place of [off, off+n), which comes in the order of the plan.
func (a *ahead) place(off, n int64) int64 {
	first, last := off/a.w.cluster, (off+n-1)/a.w.cluster
	if first != a.last {
		a.host += a.w.cluster
	}
	host := a.host + off%a.w.cluster
	a.host += (last - first) * a.w.cluster
	a.last = last
	return host
}
