package vhd

import (
	"context"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxFindings is how many findings one check reports.
const maxFindings = 1000

// Check examines the footer.
func (r *fixedReader) Check(_ context.Context, report func(image.Finding)) error {
	r.checkFooters(limited(report))
	return nil
}

// Check examines the footers, the header, the table and where the blocks lie.
func (r *sparseReader) Check(ctx context.Context, report func(image.Finding)) error {
	report = limited(report)
	r.checkFooters(report)
	if !r.headSound {
		report(image.Finding{Severity: image.Corruption, Offset: r.head.at, Text: "vhd: the checksum of the header is wrong"})
	}
	l := layout{r: r, regions: r.regions()}
	l.problem = func(at int64, text string) error {
		report(image.Finding{Severity: image.Corruption, Offset: at, Text: "vhd: " + text})
		return ctx.Err()
	}
	l.gap = func(at, end int64) {
		if unused := l.unused(at, end); unused >= l.room() {
			report(image.Finding{Severity: image.Leak, Offset: at, Text: fmt.Sprintf("vhd: %d bytes up to offset %d are in no block", unused, end)})
		}
	}
	if err := l.check(); err != nil {
		return err
	}
	return r.eachBlock(func(i int64, sector uint32) error {
		at := int64(sector) * sectorSize
		need := r.head.bitmapSize() + min(r.head.block, r.info.VirtualSize-i*r.head.block)
		if at > r.end-need {
			text := fmt.Sprintf("vhd: block %d at offset %d reaches past %d, where the blocks end", i, at, r.end)
			report(image.Finding{Severity: image.Corruption, Offset: r.head.tableAt + i*4, Text: text})
		}
		return ctx.Err()
	})
}

// unused returns how much of [at, end) is not metadata.
func (l *layout) unused(at, end int64) int64 {
	n := end - at
	for _, m := range l.regions {
		n -= max(0, min(end, m.end)-max(at, m.at))
	}
	return n
}

// checkFooters examines the footer at the end and, of disks that have one, its copy.
func (b *base) checkFooters(report func(image.Finding)) {
	type place struct {
		*foundFooter
		name string
		at   int64
	}
	places := []place{{b.footers.tail, "the footer at the end of the file", b.end}}
	if b.foot.kind != fixed {
		places = append(places, place{b.footers.head, "the copy of the footer at the beginning of the file", 0})
	}
	for _, p := range places {
		if p.foundFooter == nil {
			report(image.Finding{Severity: image.Corruption, Offset: p.at, Text: "vhd: " + p.name + " is missing"})
		} else if !p.sound {
			report(image.Finding{Severity: image.Corruption, Offset: p.at, Text: "vhd: the checksum of " + p.name + " is wrong"})
		}
	}
	if tail, head := b.footers.tail, b.footers.head; b.foot.kind != fixed && tail != nil && head != nil && tail.footer != head.footer {
		report(image.Finding{Severity: image.Corruption, Offset: tail.at, Text: "vhd: the footer and its copy at the beginning of the file differ"})
	}
}

// limited passes on the first findings.
func limited(report func(image.Finding)) func(image.Finding) {
	n := 0
	return func(f image.Finding) {
		if n++; n <= maxFindings {
			report(f)
		}
	}
}
