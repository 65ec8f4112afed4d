package dialogue

import (
	"encoding/gob"
	"encoding/hex"
	"net"
	"path"
	"slices"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// ScanVmRootRequest is the request of ScanVmRoot.
type ScanVmRootRequest struct {
	IpAddress net.IP
	Filter    *struct{ FilterLines []string }
}

// ScanVmRootResponse is the answer of ScanVmRoot.
type ScanVmRootResponse struct {
	Error      string
	FileSystem *FileSystem
}

// FileSystem is a tree: the root directory, and what lies below it by number. Values of the table are pointers to the inodes below.
type FileSystem struct {
	InodeTable       map[uint64]any
	NumRegularInodes uint64
	TotalDataBytes   uint64
	DirectoryCount   uint64
	DirectoryInode
}

// DirectoryInode is a directory. Modes are those of stat(2).
type DirectoryInode struct {
	EntryList      []*DirectoryEntry
	Mode, Uid, Gid uint32
}

// DirectoryEntry is a name in a directory.
type DirectoryEntry struct {
	Name        string
	InodeNumber uint64
}

// RegularInode is a regular file.
type RegularInode struct {
	Mode, Uid, Gid   uint32
	MtimeNanoSeconds int32
	MtimeSeconds     int64
	Size             uint64
	Hash             Hash
}

// SymlinkInode is a symbolic link.
type SymlinkInode struct {
	Uid, Gid uint32
	Symlink  string
}

// SpecialInode is a device, a pipe or a socket.
type SpecialInode struct {
	Mode, Uid, Gid   uint32
	MtimeNanoSeconds int32
	MtimeSeconds     int64
	Rdev             uint64
}

// Hash is a SHA-512 digest.
type Hash [64]byte

// MarshalText implements encoding.TextMarshaler, for JSON.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// registerInodes tells gob under which names clients know the inodes. It does so once for the process, and again without effect.
func registerInodes() {
	gob.RegisterName("*filesystem.DirectoryInode", new(DirectoryInode))
	gob.RegisterName("*filesystem.RegularInode", new(RegularInode))
	gob.RegisterName("*filesystem.SymlinkInode", new(SymlinkInode))
	gob.RegisterName("*filesystem.SpecialInode", new(SpecialInode))
}

// openScan: the request; a status line and the answer.
func openScan(t wire.Talk) wire.Dialogue {
	return dialogue[*hypervisorv1.ScanVmRootRequest, *hypervisorv1.ScanVmRootResponse]{
		asked(t, func(w ScanVmRootRequest) (*hypervisorv1.ScanVmRootRequest, error) {
			vm, err := wire.IPToProto(w.IpAddress)
			m := &hypervisorv1.ScanVmRootRequest{Vm: vm}
			if w.Filter != nil {
				m.FilterLines = w.Filter.FilterLines
			}
			return m, err
		}),
		func(m *hypervisorv1.ScanVmRootResponse) error {
			return t.Write([]byte("\n"), &ScanVmRootResponse{FileSystem: fileSystem(m.GetEntries())})
		},
		func(failure error) error {
			if failure == nil {
				return nil
			}
			return t.Write([]byte("\n"), &ScanVmRootResponse{Error: t.Text(failure)})
		},
	}
}

// The types of stat(2).
const (
	typeMask      = 0o170000
	typeDirectory = 0o040000
	typeRegular   = 0o100000
	typeSymlink   = 0o120000
)

// fileSystem makes a tree of a list of paths. Files are numbered in the order of the list: their numbers in the guest are not known, so that
// each name of a file with several has one of its own.
func fileSystem(entries []*hypervisorv1.FileEntry) *FileSystem {
	fs := &FileSystem{InodeTable: make(map[uint64]any), DirectoryCount: 1}
	fs.Mode = typeDirectory | 0o755
	directories := map[string]*DirectoryInode{"/": &fs.DirectoryInode}
	sorted := slices.SortedFunc(slices.Values(entries), func(a, b *hypervisorv1.FileEntry) int { return strings.Compare(clean(a), clean(b)) })
	for i, e := range sorted {
		name := clean(e)
		if name == "/" {
			fs.Mode, fs.Uid, fs.Gid = e.GetMode(), e.GetUserId(), e.GetGroupId()
			continue
		}
		parent := directories[path.Dir(name)]
		if parent == nil {
			continue // its directory was left out, with all that lies in it
		}
		number := uint64(i) + 1
		parent.EntryList = append(parent.EntryList, &DirectoryEntry{path.Base(name), number})
		inode := fs.inode(e)
		fs.InodeTable[number] = inode
		if d, ok := inode.(*DirectoryInode); ok {
			directories[name] = d
		}
	}
	return fs
}

func clean(e *hypervisorv1.FileEntry) string { return path.Clean("/" + e.GetPath()) }

// inode makes and counts an inode.
func (fs *FileSystem) inode(e *hypervisorv1.FileEntry) any {
	at := e.GetModifiedOn()
	switch e.GetMode() & typeMask {
	case typeDirectory:
		fs.DirectoryCount++
		return &DirectoryInode{Mode: e.GetMode(), Uid: e.GetUserId(), Gid: e.GetGroupId()}
	case typeRegular:
		fs.NumRegularInodes++
		fs.TotalDataBytes += e.GetSize()
		r := &RegularInode{
			Mode: e.GetMode(), Uid: e.GetUserId(), Gid: e.GetGroupId(), MtimeNanoSeconds: at.GetNanos(), MtimeSeconds: at.GetSeconds(), Size: e.GetSize(),
		}
		copy(r.Hash[:], e.GetSha512())
		return r
	case typeSymlink:
		return &SymlinkInode{e.GetUserId(), e.GetGroupId(), e.GetSymlink()}
	default:
		return &SpecialInode{e.GetMode(), e.GetUserId(), e.GetGroupId(), at.GetNanos(), at.GetSeconds(), e.GetDevice()}
	}
}
