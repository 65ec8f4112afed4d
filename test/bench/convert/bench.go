package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/test/bench/gauge"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// bench measures pairs in a folder.
type bench struct {
	settings
	dir, disk string
}

// maxPeak is how much memory a conversion may take, in KiB.
const maxPeak = 64 << 10

// contenders are the runs of one pair.
type contenders struct {
	ours, plain, best []gauge.Cost
	size, theirSize   int64
}

// measure runs a pair and reports whether it is as fast as required.
func (b *bench) measure(ctx context.Context, p pair) (bool, error) {
	src, err := b.prepare(ctx, p.source)
	if err != nil {
		return false, err
	}
	out := filepath.Join(b.dir, "out")
	var c contenders
	for round := range b.rounds + 1 {
		if round == 1 {
			c = contenders{} // the first round only warms up: memory that was never used costs more
		}
		cost, err := gauge.Run(ctx, nil, "bin/hyperexport", append([]string{"convert", src, out, "--progress", "none"}, p.ours...)...)
		if err != nil {
			return false, err
		}
		c.ours = append(c.ours, cost)
		if _, err := proc.Run(ctx, nil, "qemu-img", "compare", "-f", "raw", "-F", p.format, b.disk, out); err != nil {
			return false, fmt.Errorf("%s: the output differs: %w", p.name, err)
		}
		if c.size, err = remove(out); err != nil {
			return false, err
		}
		if c.plain, err = b.qemu(ctx, c.plain, p, src, out); err != nil {
			return false, err
		}
		if c.best, err = b.qemu(ctx, c.best, p, src, out, "-W", "-m", "16"); err != nil {
			return false, err
		}
		if c.theirSize, err = remove(out); err != nil {
			return false, err
		}
	}
	return c.report(p), nil
}

// prepare makes the image to read, if it is not there.
func (b *bench) prepare(ctx context.Context, s *source) (string, error) {
	if s == nil {
		return b.disk, nil
	}
	path := filepath.Join(b.dir, s.name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	_, err := proc.Run(ctx, nil, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", s.format}, s.args...), b.disk, path)...)
	return path, err
}

func (b *bench) qemu(ctx context.Context, runs []gauge.Cost, p pair, src, out string, flags ...string) ([]gauge.Cost, error) {
	if err := os.RemoveAll(out); err != nil {
		return nil, err
	}
	from := "raw"
	if p.source != nil {
		from = p.source.format
	}
	args := append([]string{"convert", "-f", from, "-O", p.format}, flags...)
	c, err := gauge.Run(ctx, nil, "qemu-img", append(append(args, p.theirs...), src, out)...)
	return append(runs, c), err
}

// remove removes a file and returns the size it had.
func remove(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), os.Remove(path)
}

func header() {
	fmt.Printf("%-40s %8s %8s %6s  %8s %8s %8s  %7s %6s %6s\n", "median of the rounds", "ours", "CPU", "peak", "qemu", "qemu -W", "CPU", "ratio", "wanted", "size")
}

// report prints a line and reports whether the pair is as fast as required, in bounds.
func (c *contenders) report(p pair) bool {
	ours, plain, best := gauge.Median(c.ours), gauge.Median(c.plain), gauge.Median(c.best)
	better := plain
	if best.Wall < plain.Wall {
		better = best
	}
	ratio := better.Wall.Seconds() / ours.Wall.Seconds()
	size := float64(c.size) / float64(c.theirSize)
	peak := gauge.Worst(c.ours)
	ok := ratio >= p.required && peak <= maxPeak && (!p.equal || size <= 1.02)
	mark := ""
	if !ok {
		mark = "  MISSED"
	}
	fmt.Printf("%-40s %7.2fs %7.2fs %3d MiB %7.2fs %7.2fs %7.2fs  %6.2fx %5.1fx %6.3f%s\n", p.name, ours.Wall.Seconds(), ours.CPU.Seconds(), peak>>10,
		plain.Wall.Seconds(), best.Wall.Seconds(), better.CPU.Seconds(), ratio, p.required, size, mark)
	return ok
}
