package vmdk

import (
	"math"
	"strconv"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxSectors bounds sizes and offsets, so that they and their sums are good in bytes.
const maxSectors = math.MaxInt64 / sectorSize

// The kinds of extent that are read. Technical note, "The Extent Description"; SESPARSE came later.
const (
	kindFlat       = "FLAT"
	kindVMFS       = "VMFS"
	kindZero       = "ZERO"
	kindSparse     = "SPARSE"
	kindVMFSSparse = "VMFSSPARSE"
	kindSESparse   = "SESPARSE"
)

// extentLine names one file of a disk. The name is attacker-controlled bytes in an unknown encoding.
type extentLine struct {
	access  string // RW, RDONLY or NOACCESS
	sectors uint64
	kind    string
	name    string
	offset  uint64 // in the file, in sectors; of flat extents
}

// parseExtent reads a line such as: RW 4192256 FLAT "disk-f001.vmdk" 0. ok is false for a line that is no extent's.
func parseExtent(s string) (e extentLine, ok bool, err error) {
	access, rest := cutWord(s)
	e.access = strings.ToUpper(access)
	if e.access != "RW" && e.access != "RDONLY" && e.access != "NOACCESS" {
		return e, false, nil
	}
	count, rest := cutWord(rest)
	if e.sectors, err = parseSectors(count); err != nil {
		return e, true, err
	}
	kind, rest := cutWord(rest)
	e.kind = strings.ToUpper(kind)
	if from := strings.IndexByte(rest, '"'); from >= 0 {
		to := strings.LastIndexByte(rest, '"')
		e.name = rest[from+1 : max(to, from+1)]
		// Of a device more words may follow; such extents are refused later.
		if at, _ := cutWord(strings.TrimSpace(rest[to+1:])); at != "" {
			e.offset, err = parseSectors(at)
		}
	}
	return e, true, err
}

// parseSectors reads a number of sectors.
func parseSectors(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxSectors {
		return 0, image.Corruptf("vmdk: an extent line of the descriptor has %q where a number of sectors up to %d must be", s, uint64(maxSectors))
	}
	return n, nil
}

// cutWord returns the first word of s and what follows the blanks behind it.
func cutWord(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

// checkAccess refuses an extent that must not be accessed: nothing says what the disk has there, and zeros would be a guess. RDONLY is as good as RW, for
// nothing is written.
func (e extentLine) checkAccess() error {
	if e.access == "NOACCESS" {
		return image.Unsupportedf("vmdk: the descriptor forbids access to the extent %q of %d sectors (NOACCESS)", e.name, e.sectors)
	}
	return nil
}

// check refuses extents of a disk of several files that cannot be read.
func (e extentLine) check() error {
	switch e.kind {
	case kindZero:
	case kindFlat, kindVMFS, kindSparse, kindVMFSSparse, kindSESparse:
		if e.name == "" {
			return image.Corruptf("vmdk: an extent of kind %s and %d sectors names no file", e.kind, e.sectors)
		}
	case "VMFSRDM", "VMFSRAW":
		return image.Unsupportedf("vmdk: the extent %q (%s) stands for a physical device", e.name, e.kind)
	default:
		return image.Unsupportedf("vmdk: extent %q is of the unknown kind %q", e.name, e.kind)
	}
	if e.flat() && e.offset > maxSectors-e.sectors {
		return image.Limitf("vmdk: extent %q ends at sector %d+%d of its file, beyond %d", e.name, e.offset, e.sectors, uint64(maxSectors))
	}
	return e.checkAccess()
}

// flat reports whether the file holds the content as it is.
func (e extentLine) flat() bool { return e.kind == kindFlat || e.kind == kindVMFS }

// size returns the extent's size in bytes.
func (e extentLine) size() int64 { return int64(e.sectors) * sectorSize }

func (e extentLine) reference() image.Reference {
	ref := image.Reference{Kind: "extent", Name: e.name, Format: "vmdk"}
	if e.flat() {
		ref.Format = "raw"
	}
	return ref
}
