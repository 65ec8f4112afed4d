package guestfs

import (
	"context"
	"crypto/sha512"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// scanner sends the entries of a file system.
type scanner struct {
	ctx    func() error
	filter Filter
	limit  int64 // a file that is larger than its file system is made of nothing but a wish to keep us busy
	send   func(reply) error
}

func scan(ctx context.Context, d *openedDisk, label string, lines []string, send func(reply) error) (err error) {
	filter, err := CompileFilter(lines)
	if err != nil {
		return err
	}
	m, err := mountRoot(ctx, d, label)
	if err != nil {
		return err
	}
	defer func() { err = join(err, m.unmount()) }()
	s := scanner{ctx: ctx.Err, filter: filter, limit: d.size, send: send}
	root := rootFolder(m)
	st, err := root.stat(".")
	if err != nil {
		return root.fault(err)
	}
	if err := send(reply{Entry: described("/", st)}); err != nil {
		return err
	}
	return s.folder(root)
}

func (s scanner) folder(f folder) error {
	names, err := f.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.ctx(); err != nil {
			return err
		}
		if s.filter.Match(f.join(name)) {
			continue
		}
		if err := s.entry(f, name); err != nil {
			return err
		}
	}
	return nil
}

func (s scanner) entry(f folder, name string) error {
	st, err := f.stat(name)
	if err != nil {
		return damaged(err, f.join(name))
	}
	e := described(f.join(name), st)
	switch kind(st) {
	case unix.S_IFREG:
		e.SHA512, err = s.digest(f, name, st)
	case unix.S_IFLNK:
		e.Symlink, err = f.link(name)
	}
	if err == nil {
		err = s.send(reply{Entry: e})
	}
	if err != nil || kind(st) != unix.S_IFDIR {
		return err
	}
	child, err := f.child(name)
	if err != nil {
		return err
	}
	defer child.Close() //nolint:errcheck // it was only read
	return s.folder(child)
}

func (s scanner) digest(f folder, name string, st unix.Stat_t) ([]byte, error) {
	if st.Size > s.limit {
		return nil, fault.New(fault.FailedPrecondition, "%s: has %d bytes, more than its disk; leave it out with filter_lines", f.join(name), st.Size)
	}
	file, err := f.regular(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it was only read
	sum := sha512.New()
	if _, err := io.Copy(sum, &interruptible{file, s.ctx}); err != nil {
		return nil, damaged(err, f.join(name))
	}
	return sum.Sum(nil), nil
}

// interruptible reads until its context ends.
type interruptible struct {
	io.Reader
	ctx func() error
}

func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func described(at string, st unix.Stat_t) *entry {
	e := &entry{Path: at, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Modified: time.Unix(st.Mtim.Unix())}
	switch kind(st) {
	case unix.S_IFREG, unix.S_IFLNK:
		e.Size = uint64(st.Size)
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Device = st.Rdev
	}
	return e
}
