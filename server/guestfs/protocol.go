package guestfs

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// operation is what the child does.
type operation uint8

const (
	opScan operation = iota + 1
	opOverlay
	opPatch
	opMake
	opGrow
	opShrink
	opSeal
)

// request is what the child is asked, the one value on its standard input.
type request struct {
	Op    operation
	Disk  disk
	Image disk // opPatch: where the content comes from

	Filter      []string          // opScan, opPatch
	Directories []string          // opOverlay
	Files       map[string][]byte // opOverlay
	Size        uint64            // opShrink: of the whole disk, in bytes
	Make        makeOptions
	Traces      []Trace // opSeal
}

// disk is a volume, or an image.
type disk struct {
	File   string
	Format hypervisor.DiskFormat
	Label  string
}

type makeOptions struct {
	Label            string
	BytesPerInode    uint64
	ReservedPercent  uint32
	OwnerID, GroupID uint32
}

// reply is one of many values on the child's standard output. The last one has Done or Fail.
type reply struct {
	Entry *entry
	Log   string
	Grown bool
	Done  bool
	Fail  *failure
}

type failure struct {
	Code fault.Code
	Text string
}

// entry is an entry of a file system, as FileEntry.
type entry struct {
	Path           string
	Mode, UID, GID uint32
	Modified       time.Time
	Size           uint64
	SHA512         []byte
	Symlink        string
	Device         uint64
}

// printable returns a name in UTF-8: names may have any bytes but zero and slash.
func printable(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, name[0])
		} else {
			b.WriteString(name[:n])
		}
		name = name[n:]
	}
	return b.String()
}
