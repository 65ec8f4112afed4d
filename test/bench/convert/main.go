// Command convert measures hyperexport convert against qemu-img convert: each pair of formats, on the same machine, in the same run, taking turns. Of
// qemu-img the better of its default and its fastest flags (-W -m 16) counts. Every output of hyperexport is compared with the source disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/hyperplane-project/hyperplane/internal/units"
)

// settings are the flags.
type settings struct {
	size   int64
	rounds int
	dir    string
	only   *regexp.Regexp
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-convert:", err)
		os.Exit(1)
	}
}

func parse() (s settings, err error) {
	size := flag.String("size", "4GiB", "size of the test disk")
	only := flag.String("only", "", "measure only pairs whose name matches this regular expression")
	flag.IntVar(&s.rounds, "rounds", 5, "how often each pair is run")
	flag.StringVar(&s.dir, "dir", "/dev/shm", "folder to work in")
	flag.Parse()
	n, err := units.ParseBytes(*size)
	if err != nil {
		return s, err
	}
	s.size = int64(n)
	s.only, err = regexp.Compile(*only)
	return s, err
}

func run(ctx context.Context) (err error) {
	s, err := parse()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(s.dir, "hp-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{settings: s, dir: dir, disk: filepath.Join(dir, "disk.raw")}
	data, err := makeDisk(ctx, b.disk, s.size)
	if err != nil {
		return err
	}
	fmt.Printf("disk of %d MiB, %d MiB of it data; %d rounds in turn\n", s.size>>20, data>>20, s.rounds)
	header()
	missed := 0
	for _, p := range pairs() {
		if !s.only.MatchString(p.name) {
			continue
		}
		ok, err := b.measure(ctx, p)
		if err != nil {
			return err
		}
		if !ok {
			missed++
		}
	}
	if s.only.MatchString("reflink") {
		n, err := b.reflink(ctx)
		if err != nil {
			return err
		}
		missed += n
	}
	if s.only.MatchString("start") {
		if err := b.start(ctx); err != nil {
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d pairs are slower than required", missed)
	}
	return nil
}
