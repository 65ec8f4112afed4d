package guestfs

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// planner compares two trees and notes what must be changed in the first. Removals come before everything else.
type planner struct {
	ctx      func() error
	filter   Filter
	limit    int64 // a file that is larger is not compared
	removals []change
	changes  []change
	links    map[uint64]linked // by inode in the image, for files with several names

	// used is how many bytes, and inodes how many inodes, more are in use at a point of the plan; peak is the most bytes.
	freed, used, peak, inodes int64
}

// linked is the first name of a file that has several in the image.
type linked struct {
	path  string
	inode uint64 // of the file there now, if it stays; 0 = it is written anew
}

func newPlanner(ctx context.Context, filter Filter, limit int64) *planner {
	return &planner{ctx: ctx.Err, filter: filter, limit: limit, links: make(map[uint64]linked)}
}

func (p *planner) plan(to, from *mounted) error {
	vm, image := rootFolder(to), rootFolder(from)
	if err := p.folderItself(vm, image); err != nil {
		return err
	}
	if _, err := p.folder(vm, image); err != nil {
		return err
	}
	p.changes = append(p.removals, p.changes...)
	p.peak -= p.freed
	return nil
}

// alone says whether a path is neither taken nor changed.
func (p *planner) alone(path string) bool { return path == "/lost+found" || p.filter.Match(path) }

func (p *planner) add(c change) error {
	if len(p.changes)+len(p.removals) >= maxChanges {
		return fault.New(fault.FailedPrecondition, "more than %d changes would be needed; replace the root volume instead", maxChanges)
	}
	if c.action == actRemove || c.action == actRemoveDir {
		p.removals = append(p.removals, c)
	} else {
		p.changes = append(p.changes, c)
	}
	return p.ctx()
}

// folder compares what is in two folders. kept says that something of the VM's is left alone there.
func (p *planner) folder(vm, image folder) (kept bool, err error) {
	have, err := vm.names()
	if err != nil {
		return false, err
	}
	want, err := image.names()
	if err != nil {
		return false, fault.Wrap(err, "image")
	}
	all := append(slices.Clone(have), want...)
	slices.Sort(all)
	for _, name := range slices.Compact(all) {
		_, here := slices.BinarySearch(have, name)
		_, there := slices.BinarySearch(want, name)
		var below bool
		switch {
		case p.alone(vm.join(name)):
			below = here
		case !there:
			below, err = p.remove(vm, name)
		case !here:
			err = p.create(image, name)
		default:
			below, err = p.both(vm, image, name)
		}
		if err != nil {
			return false, err
		}
		kept = kept || below
	}
	return kept, nil
}

// both plans for a name that is in both folders.
func (p *planner) both(vm, image folder, name string) (kept bool, err error) {
	old, err := vm.stat(name)
	if err != nil {
		return false, damaged(err, vm.join(name))
	}
	fresh, err := image.stat(name)
	if err != nil {
		return false, damaged(err, "image: "+vm.join(name))
	}
	wasDir, isDir := kind(old) == unix.S_IFDIR, kind(fresh) == unix.S_IFDIR
	switch {
	case wasDir && isDir:
		return p.folders(vm, image, name)
	case wasDir:
		if kept, err = p.remove(vm, name); err != nil {
			return false, err
		}
		if kept {
			return false, fault.New(fault.FailedPrecondition,
				"%s: is no folder in the image, but the filter leaves something in it alone", shown(vm.join(name)))
		}
		return false, p.create(image, name)
	case isDir:
		if _, err = p.remove(vm, name); err != nil {
			return false, err
		}
		return false, p.create(image, name)
	}
	return false, p.replace(vm, image, name, old, fresh)
}

func (p *planner) folders(vm, image folder, name string) (kept bool, err error) {
	here, err := vm.child(name)
	if err != nil {
		return false, err
	}
	defer here.Close() //nolint:errcheck // it was only read
	there, err := image.child(name)
	if err != nil {
		return false, fault.Wrap(err, "image")
	}
	defer there.Close() //nolint:errcheck // as above
	if err := p.folderItself(here, there); err != nil {
		return false, err
	}
	return p.folder(here, there)
}

func (p *planner) folderItself(here, there folder) error {
	old, err := here.stat(".")
	if err != nil {
		return here.fault(err)
	}
	fresh, err := there.stat(".")
	if err != nil {
		return there.fault(err)
	}
	same, err := sameAttributes(int(here.Fd()), int(there.Fd()))
	if err != nil {
		return here.fault(err)
	}
	if same && sameOwner(old, fresh) {
		return nil
	}
	return p.add(change{action: actMeta, path: here.path})
}

// remove plans the end of an entry. kept says that something below it is left alone, and so are the folders above that.
func (p *planner) remove(vm folder, name string) (kept bool, err error) {
	st, err := vm.stat(name)
	if err != nil {
		return false, damaged(err, vm.join(name))
	}
	if kind(st) != unix.S_IFDIR {
		p.frees(st)
		return false, p.add(change{action: actRemove, path: vm.join(name)})
	}
	child, err := vm.child(name)
	if err != nil {
		return false, err
	}
	defer child.Close() //nolint:errcheck // it was only read
	names, err := child.names()
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if p.alone(child.join(n)) {
			kept = true
			continue
		}
		below, err := p.remove(child, n)
		if err != nil {
			return false, err
		}
		kept = kept || below
	}
	if kept {
		return true, nil
	}
	p.frees(st)
	return false, p.add(change{action: actRemoveDir, path: child.path})
}

// create plans an entry that is not there.
func (p *planner) create(image folder, name string) error {
	st, err := image.stat(name)
	if err != nil {
		return damaged(err, "image: "+image.join(name))
	}
	if kind(st) != unix.S_IFDIR {
		if first, ok := p.first(st, image.join(name), 0); ok {
			return p.add(change{action: actLink, path: image.join(name), to: first.path})
		}
		p.takes(st)
		return p.add(change{action: actPut, path: image.join(name)})
	}
	p.takes(st)
	if err := p.add(change{action: actMkdir, path: image.join(name)}); err != nil {
		return err
	}
	child, err := image.child(name)
	if err != nil {
		return fault.Wrap(err, "image")
	}
	defer child.Close() //nolint:errcheck // it was only read
	names, err := child.names()
	if err != nil {
		return fault.Wrap(err, "image")
	}
	for _, n := range names {
		if p.alone(child.join(n)) {
			continue
		}
		if err := p.create(child, n); err != nil {
			return err
		}
	}
	return nil
}

// first returns the name under which the image's file was met before, if there is one; otherwise it notes this one.
func (p *planner) first(st unix.Stat_t, path string, inode uint64) (linked, bool) {
	if kind(st) != unix.S_IFREG || st.Nlink < 2 {
		return linked{}, false
	}
	first, ok := p.links[st.Ino]
	if !ok {
		p.links[st.Ino] = linked{path, inode}
	}
	return first, ok
}

const blockUnit = 512 // of st_blocks, whatever the file system's blocks are

func (p *planner) takes(st unix.Stat_t) {
	p.inodes++
	p.used += st.Blocks*blockUnit + 4096 // what the entry itself may need
	p.peak = max(p.peak, p.used)
}

// frees counts what a removal sets free; it comes before everything that takes.
func (p *planner) frees(st unix.Stat_t) {
	if kind(st) == unix.S_IFDIR || st.Nlink == 1 {
		p.inodes--
		p.freed += st.Blocks * blockUnit
	}
}

func sameOwner(a, b unix.Stat_t) bool { return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid }
