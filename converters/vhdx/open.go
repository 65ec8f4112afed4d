package vhdx

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
	"github.com/hyperplane-project/hyperplane/converters/raw"
)

// Format returns the format's entry for the list of formats.
func Format() image.Format {
	return image.Format{Name: "vhdx", Open: Open, Create: Create}
}

// Open reads f as a VHDX of any kind. The parent of a differencing disk is opened through o and must be the one the disk was made for. The log of an image
// that was not closed is applied in memory; only then opening may read more than image.MaxOpenBytes, the log, unless o.InfoOnly is set.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	if err := checkIdentifier(f); err != nil {
		return nil, err
	}
	if err := refuseParts(o); err != nil {
		return nil, err
	}
	r, err := openFile(f, o.InfoOnly)
	if err != nil {
		return nil, err
	}
	if r.disk.diff {
		if err := r.nameParent(); err != nil || o.InfoOnly {
			return r, err
		}
		return r.withParent(o)
	}
	return r, nil
}

// refuseParts refuses to be asked for a part of the image: it has one disk in one state.
func refuseParts(o image.OpenOptions) error {
	if o.Member != "" {
		return image.Unsupportedf("vhdx: there is no member %q: the format is no archive", o.Member)
	}
	return o.RefuseSnapshot("vhdx")
}

// openFile reads what describes the disk: the headers, the log, the regions, the metadata.
func openFile(f image.File, infoOnly bool) (*reader, error) {
	both, err := readHeaders(f)
	if err != nil {
		return nil, err
	}
	h, warnings, err := both.current()
	if err != nil {
		return nil, err
	}
	r := &reader{f: f, headers: both}
	r.info = image.Info{Format: "vhdx", FileSize: f.Size(), ContentID: h.dataWrite.String(), Warnings: warnings}
	if h.dirty() {
		if err := r.replay(h, infoOnly); err != nil {
			return nil, err
		}
	}
	all, warnings, err := readRegions(r.f)
	if err != nil {
		return nil, err
	}
	r.info.Warnings = append(r.info.Warnings, warnings...)
	if r.regions, err = reserve(all, h); err != nil {
		return nil, err
	}
	return r, r.readDisk()
}

// replay puts the changes of the log over the file.
func (r *reader) replay(h *header, infoOnly bool) error {
	budget := int64(5 * maxLog) // each page is read a few times
	if infoOnly {
		budget = infoLog
	}
	c, n, err := replay(r.f, h, budget)
	switch {
	case errors.Is(err, errLogBudget) && infoOnly:
		r.warn("vhdx: the image was not closed cleanly and its log is too long to be applied for a description, which may be out of date")
		return nil
	case errors.Is(err, errLogBudget):
		return image.Limitf("vhdx: the log at offset %d takes too much reading", h.logAt)
	case err != nil:
		return err
	}
	r.f = c
	r.warn(fmt.Sprintf("vhdx: the image was not closed cleanly; %d entries of its log are applied for reading, and the file is left as it is", n))
	return nil
}

func (r *reader) warn(text string) { r.info.Warnings = append(r.info.Warnings, text) }

// readDisk reads the metadata and finds the BAT.
func (r *reader) readDisk() error {
	metadata, err := findRegion(r.regions, regionMetadata)
	if err != nil {
		return err
	}
	if r.bat, err = findRegion(r.regions, regionBAT); err != nil {
		return err
	}
	if r.disk, err = readMetadata(r.f, metadata); err != nil {
		return err
	}
	if need := r.disk.entries() * 8; need > r.bat.size {
		return image.Corruptf("vhdx: the BAT has %d bytes; a disk of %d bytes in blocks of %d needs %d", r.bat.size, r.disk.size, r.disk.block, need)
	}
	r.info.VirtualSize, r.info.ClusterSize, r.info.SectorSize = r.disk.size, r.disk.block, r.disk.sector
	r.info.Variant = "dynamic"
	switch {
	case r.disk.diff:
		r.info.Variant = "differencing"
	case r.disk.allocated:
		r.info.Variant = "fixed"
		if r.plain, err = raw.Open(r.f, image.OpenOptions{}); err != nil {
			return err
		}
	}
	r.tables = tables.New(r.f)
	r.blocksOK = sync.OnceValue(r.refuseOverlaps)
	return nil
}
