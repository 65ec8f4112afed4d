package guestfs

import (
	"bytes"
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// replace plans for two entries that are no folders.
func (p *planner) replace(vm, image folder, name string, old, fresh unix.Stat_t) error {
	path := vm.join(name)
	how, err := p.differ(vm, image, name, old, fresh)
	if err != nil {
		return err
	}
	stays := old.Ino
	if how == actPut {
		stays = 0
	}
	if first, ok := p.first(fresh, path, stays); ok {
		if first.inode != 0 && first.inode == old.Ino {
			return nil // two names of one file there as here
		}
		return p.add(change{action: actLink, path: path, to: first.path})
	}
	switch how {
	case actPut:
		p.takes(fresh)
		p.inodes--
		if old.Nlink == 1 {
			p.used -= old.Blocks * blockUnit
		}
		return p.add(change{action: actPut, path: path})
	case actMeta:
		return p.add(change{action: actMeta, path: path})
	default:
		return nil
	}
}

// differ says what must be done to make the VM's entry the image's: actPut, actMeta, or nothing (0).
func (p *planner) differ(vm, image folder, name string, old, fresh unix.Stat_t) (action, error) {
	// A file with a name more than in the image would be changed under that name too.
	shared := kind(old) == unix.S_IFREG && old.Nlink > 1
	switch {
	case kind(old) != kind(fresh), shared && fresh.Nlink == 1:
		return actPut, nil
	case kind(old) == unix.S_IFREG:
		content, attributes, err := p.sameFiles(vm, image, name, old, fresh)
		switch {
		case err != nil:
			return 0, err
		case !content, shared && (!attributes || !sameOwner(old, fresh)):
			return actPut, nil
		case !attributes, !sameOwner(old, fresh):
			return actMeta, nil
		}
		return 0, nil
	case kind(old) == unix.S_IFLNK:
		a, err := vm.link(name)
		if err != nil {
			return 0, err
		}
		b, err := image.link(name)
		if err != nil {
			return 0, err
		}
		if a != b || !sameOwner(old, fresh) {
			return actPut, nil
		}
		return 0, nil
	}
	if old.Rdev != fresh.Rdev || !sameOwner(old, fresh) {
		return actPut, nil
	}
	return 0, nil
}

func (p *planner) sameFiles(vm, image folder, name string, old, fresh unix.Stat_t) (content, attributes bool, err error) {
	if old.Size != fresh.Size || old.Size > p.limit {
		return false, false, nil
	}
	a, err := vm.regular(name)
	if err != nil {
		return false, false, err
	}
	defer a.Close() //nolint:errcheck // it was only read
	b, err := image.regular(name)
	if err != nil {
		return false, false, err
	}
	defer b.Close() //nolint:errcheck // as above
	content, err = sameContent(&interruptible{a, p.ctx}, b)
	if err == nil {
		attributes, err = sameAttributes(int(a.Fd()), int(b.Fd()))
	}
	return content, attributes, damaged(err, vm.join(name))
}

func sameAttributes(a, b int) (bool, error) {
	x, err := xattrs(a)
	if err != nil {
		return false, err
	}
	y, err := xattrs(b)
	return sameXattrs(x, y), err
}

// sameContent compares two files of one length.
func sameContent(a, b io.Reader) (bool, error) {
	const piece = 256 << 10
	x, y := make([]byte, piece), make([]byte, piece)
	for {
		n, err := io.ReadFull(a, x)
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if _, err := io.ReadFull(b, y[:n]); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
}
