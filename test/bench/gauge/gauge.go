// Package gauge measures what a program costs: time, processor time and memory.
package gauge

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// Cost is what one run took.
type Cost struct {
	Wall, CPU time.Duration
	// Peak is the resident memory of the largest process, in KiB.
	Peak int64
}

// Add returns the cost of two runs after each other.
func (c Cost) Add(o Cost) Cost { return Cost{c.Wall + o.Wall, c.CPU + o.CPU, max(c.Peak, o.Peak)} }

// Run runs a program and measures it. A program that fails is an error with what it said.
func Run(ctx context.Context, env []string, path string, args ...string) (Cost, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	c := Cost{Wall: time.Since(start)}
	if err != nil {
		return c, fmt.Errorf("%s %q: %w\n%s", path, args, err, out)
	}
	c.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.Peak = usage.Maxrss
	}
	return c, nil
}

// Median returns the run with the median time.
func Median(runs []Cost) Cost {
	sorted := slices.SortedFunc(slices.Values(runs), func(a, b Cost) int { return cmp.Compare(a.Wall, b.Wall) })
	return sorted[len(sorted)/2]
}

// Worst returns the largest memory of all runs, in KiB.
func Worst(runs []Cost) (peak int64) {
	for _, c := range runs {
		peak = max(peak, c.Peak)
	}
	return peak
}
