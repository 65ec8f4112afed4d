package guestfs

import (
	"bufio"
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Main is the child: it does what in asks for, answers on out, and returns its exit status. It ends the process when in ends before the work does.
func Main(ctx context.Context, in io.Reader, out io.Writer) int {
	// As the first process of its namespace it takes everything with it when it ends.
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "this is a part of the daemon, which runs it by itself")
		return 2
	}
	unix.Umask(0)
	var req request
	if err := gob.NewDecoder(in).Decode(&req); err != nil {
		fmt.Fprintln(os.Stderr, "request:", err)
		return 2
	}
	go func() {
		_, _ = io.Copy(io.Discard, in) // ends with the daemon
		os.Exit(3)
	}()
	w := bufio.NewWriter(out)
	encoder := gob.NewEncoder(w)
	err := req.do(ctx, func(m reply) error { return encoder.Encode(m) })
	last := reply{Done: true}
	if err != nil {
		last = reply{Fail: &failure{Code: fault.CodeOf(err), Text: err.Error()}}
	}
	if encoder.Encode(last) != nil || w.Flush() != nil {
		return 1
	}
	return 0
}

// do does what is asked, on a disk that is there for as long as that takes.
func (q request) do(ctx context.Context, send func(reply) error) (err error) {
	readOnly := q.Op == opScan
	d, err := openDisk(ctx, q.Disk, readOnly)
	if err != nil {
		return err
	}
	defer func() { err = join(err, d.close()) }()
	switch q.Op {
	case opScan:
		return scan(ctx, d, q.Disk.Label, q.Filter, send)
	case opOverlay:
		return overlay(ctx, d, q.Disk.Label, q.Directories, q.Files)
	case opPatch:
		return q.patch(ctx, d, send)
	case opMake:
		return makeFilesystem(ctx, d, q.Make)
	case opGrow:
		return grow(ctx, d, send)
	case opSeal:
		return seal(ctx, d, q.Disk.Label, q.Traces)
	case opShrink:
		return shrink(ctx, d, int64(q.Size))
	default:
		return fault.New(fault.Internal, "operation %d is not known", q.Op)
	}
}

func (q request) patch(ctx context.Context, d *openedDisk, send func(reply) error) (err error) {
	image, err := openDisk(ctx, q.Image, true)
	if err != nil {
		return fault.Wrap(err, "image")
	}
	defer func() { err = join(err, image.close()) }()
	return patch(ctx, d, image, q.Disk.Label, q.Filter, &lines{send: send})
}

func join(first, second error) error {
	if first != nil {
		return first
	}
	return second
}
