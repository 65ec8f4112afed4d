package engine

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// place gives the window's content its place in the file. It runs in the windows' order.
func (k *worker) place(w *window) error {
	if err := k.placeZeros(); err != nil {
		return err
	}
	if k.appender != nil {
		for _, p := range k.pieces {
			if err := k.appender.Append(p.off, k.encoded[p.from:p.to]); err != nil {
				return err
			}
		}
		return nil
	}
	k.spans, k.asked = k.spans[:0], nil
	for u := 0; u < len(k.units); {
		if !k.units[u] {
			u++
			continue
		}
		first := u
		for u < len(k.units) && k.units[u] {
			u++
		}
		if err := k.placeRun(w, int64(first)*k.unit, int64(u)*k.unit); err != nil {
			return err
		}
	}
	return nil
}

// placeZeros hides what the base has where the disk has zeros.
func (k *worker) placeZeros() error {
	for _, run := range k.zeros {
		if err := k.zeroer.PlaceZeros(run.Off, run.Len); err != nil {
			return err
		}
	}
	return nil
}

// placeRun places [from, to) of the window. The writer allocates whole units of its own, which may be larger.
func (k *worker) placeRun(w *window, from, to int64) error {
	for from < to {
		start := (w.off + from) / k.alloc * k.alloc
		end := (w.off + to + k.alloc - 1) / k.alloc * k.alloc
		if k.opts.Journal != nil {
			k.asked = append(k.asked, image.Run{Off: start, Len: end - start})
		}
		host, n, err := k.placer.Place(start, end-start)
		if err != nil {
			return err
		}
		next := min(to, start+n-w.off)
		k.spans = append(k.spans, span{from, next, host + w.off + from - start})
		from = next
	}
	return nil
}

// write writes a placer's content; an appender has written its own.
func (k *worker) write(w *window) error {
	if k.placer == nil {
		return nil
	}
	if err := k.cloneRuns(w); err != nil {
		return err
	}
	for _, s := range k.spans {
		// The last unit may reach past the end of the disk; the writer's Finish sets the file's size.
		to := min(s.to, k.size-w.off)
		if err := k.writeSpan(w, s, to); err != nil {
			return err
		}
	}
	return nil
}

// writeSpan writes a span, except what was cloned.
func (k *worker) writeSpan(w *window, s span, to int64) error {
	from := s.from
	for _, e := range k.clones {
		start, end := max(e.Off-w.off, from), min(e.Off+e.Len-w.off, to)
		if start >= end {
			continue
		}
		if err := k.writePlain(s, from, start); err != nil {
			return err
		}
		from = end
	}
	return k.writePlain(s, from, to)
}

func (k *worker) writePlain(s span, from, to int64) error {
	if from >= to {
		return nil
	}
	host := s.host + from - s.from
	_, err := k.out.WriteAt(k.plain[from:to], host)
	return fault.Wrap(err, "write the output at offset %d", host)
}
