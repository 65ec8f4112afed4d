package guestfs

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// action is what is done to a path.
type action uint8

const (
	actRemove    action = iota + 1 // a file, or an empty folder
	actRemoveDir                   // a folder of which something may be kept
	actPut                         // any entry but a folder, in place of what is there
	actMkdir
	actLink // another name for the file at to
	actMeta // owner, permissions and attributes only
)

func (a action) String() string {
	return map[action]string{
		actRemove: "delete", actRemoveDir: "delete", actPut: "write", actMkdir: "make folder", actLink: "link", actMeta: "set owner and permissions of",
	}[a]
}

// change is one change of a file system.
type change struct {
	action
	path string
	to   string // actLink
}

// maxChanges bounds what is held in memory.
const maxChanges = 5 << 20

// patch brings the root file system of d to that of image.
func patch(ctx context.Context, d, image *openedDisk, label string, lines []string, log io.Writer) (err error) {
	filter, err := CompileFilter(lines)
	if err != nil {
		return err
	}
	from, err := mountRoot(ctx, image, "")
	if err != nil {
		return fault.Wrap(err, "image")
	}
	defer func() { err = join(err, from.unmount()) }()
	to, err := mountRoot(ctx, d, label)
	if err != nil {
		return err
	}
	defer func() { err = join(err, to.unmount()) }()
	p := newPlanner(ctx, filter, max(d.size, image.size))
	if err := p.plan(to, from); err != nil {
		return err
	}
	if err := p.fits(to); err != nil {
		return err
	}
	a := applier{ctx: ctx.Err, to: to, from: from, log: log}
	return a.all(p.changes)
}

// fits compares what the changes need with what there is.
func (p *planner) fits(to *mounted) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(to.Fd()), &fs); err != nil {
		return damaged(err, "/")
	}
	if free := int64(fs.Bfree) * fs.Bsize; p.peak > free {
		return fault.New(fault.ResourceExhausted, "the image does not fit: %d more bytes are needed, the guest's file system has %d", p.peak, free)
	}
	if p.inodes > int64(fs.Ffree) {
		return fault.New(fault.ResourceExhausted, "the image does not fit: %d more inodes are needed, the guest's file system has %d", p.inodes, fs.Ffree)
	}
	return nil
}

// note writes a line of the log.
func note(log io.Writer, c change) error {
	text := c.String() + " " + shown(c.path)
	if c.action == actLink {
		text += " to " + shown(c.to)
	}
	_, err := fmt.Fprintln(log, text)
	return err
}

// shown returns a path in a form that can not disturb a log.
func shown(path string) string {
	for _, r := range path {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return strconv.Quote(path)
		}
	}
	return path
}
