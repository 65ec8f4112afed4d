package vhdx

import (
	"bytes"
	"context"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxFindings is how many findings one check reports.
const maxFindings = 1000

// Check examines the checksums, the states in the BAT and where the blocks lie.
func (r *reader) Check(ctx context.Context, report func(image.Finding)) error {
	c := &checker{r: r, report: report}
	c.checkHeaders()
	if err := c.checkRegions(); err != nil {
		return err
	}
	l := layout{r: r}
	l.problem = func(at int64, text string) error {
		c.corruption(at, text)
		return ctx.Err()
	}
	l.invalid = func(i int64, err error) error {
		c.corruption(r.bat.at+i*8, err.Error())
		return ctx.Err()
	}
	if err := l.fill(); err != nil {
		return err
	}
	if err := r.eachEntry(func(i int64, e uint64) error { c.checkEntry(i, e); return ctx.Err() }); err != nil {
		return err
	}
	return c.findLeaks(ctx, &l)
}

// checker passes on the first findings.
type checker struct {
	r      *reader
	report func(image.Finding)
	n      int
}

func (c *checker) add(f image.Finding) {
	if c.n++; c.n <= maxFindings {
		c.report(f)
	}
}

func (c *checker) corruption(at int64, text string) {
	c.add(image.Finding{Severity: image.Corruption, Offset: at, Text: "vhdx: " + text})
}

func (c *checker) checkHeaders() {
	for i, at := range []int64{header1At, header2At} {
		if c.r.headers[i] == nil {
			c.corruption(at, fmt.Sprintf("header %d is damaged", i+1))
		}
	}
}

// checkRegions compares the region tables.
func (c *checker) checkRegions() error {
	var tables [2][]byte
	for i, at := range []int64{regions1At, regions2At} {
		tables[i] = make([]byte, regionTableSize)
		if err := image.ReadFull(c.r.f, tables[i], at, "vhdx region table"); err != nil {
			return err
		}
		if !sound(tables[i], regionSignature) {
			c.corruption(at, fmt.Sprintf("region table %d is damaged", i+1))
			return nil
		}
	}
	if !bytes.Equal(tables[0], tables[1]) {
		c.corruption(regions2At, "the two region tables differ")
	}
	return nil
}

// checkEntry looks for what reading would run into: states that do not exist and blocks that are not in the file.
func (c *checker) checkEntry(i int64, e uint64) {
	d := c.r.disk
	isBitmap := i%(d.ratio()+1) == d.ratio()
	what, at, err := c.r.decode(e, i)
	if err != nil || isBitmap && !d.diff {
		return
	}
	need := int64(bitmapSize)
	if isBitmap {
		if what != notPresent && what != present {
			c.corruption(c.r.bat.at+i*8, fmt.Sprintf("the bitmap of BAT entry %d has state %d, which does not exist", i, what))
		}
	} else {
		block := i - i/(d.ratio()+1)
		need = min(d.block, d.size-block*d.block)
		c.checkBlock(i, block, what)
	}
	if at > 0 && at > c.r.f.Size()-need {
		c.corruption(c.r.bat.at+i*8, fmt.Sprintf("the block of BAT entry %d at offset %d reaches past the end of the file at %d", i, at, c.r.f.Size()))
	}
}

// checkBlock examines the state of a block.
func (c *checker) checkBlock(i, block int64, what state) {
	switch {
	case what > unmapped && what < present:
		c.corruption(c.r.bat.at+i*8, fmt.Sprintf("the block of BAT entry %d has state %d, which does not exist", i, what))
	case what == partial:
		if bitmap, _, err := c.r.entry(c.r.disk.bitmap(block)); err == nil && bitmap != present {
			c.corruption(c.r.bat.at+i*8, fmt.Sprintf("the block of BAT entry %d needs a sector bitmap, which is not there", i))
		}
	}
}

// findLeaks reports the MiB that nothing uses.
func (c *checker) findLeaks(ctx context.Context, l *layout) error {
	var from int64
	free := int64(0)
	flush := func() {
		if free > 0 {
			c.add(image.Finding{Severity: image.Leak, Offset: from, Text: fmt.Sprintf("vhdx: %d MiB are in no block", free)})
		}
		free = 0
	}
	for i := int64(0); i < c.r.f.Size()/mib; i++ {
		if i%(1<<20) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		added, full := l.used.Add(i)
		if full {
			break
		}
		if !added {
			flush()
			continue
		}
		if free == 0 {
			from = i * mib
		}
		free++
	}
	flush()
	return nil
}
