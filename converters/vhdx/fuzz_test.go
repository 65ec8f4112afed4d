package vhdx_test

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

// fold is a part of an image: n bytes at an offset. Images are mostly zeros; only these parts are fuzzed.
type fold struct{ at, n int64 }

func folds() []fold {
	return []fold{
		{0, 512},
		{header1, 128},
		{header2, 128},
		{regions1, 512},
		{logAt, 8 * page},
		{logAt + logSize - 2*page, 2 * page},
		{metadataAt, 512},
		{itemsAt, 8 * page},
		{batAt, 512},
		{batAt + 8*ratio, 512},
		{block0, page},
		{6 * mib, page},
	}
}

// sparse is an image of seven MiB of which only some pages are kept. The others are zeros.
type sparse map[int64]*[page]byte

const sparseSize = 7 * mib

// ReadAt reads the image.
func (s sparse) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off+int64(n) < sparseSize {
		at := off + int64(n)
		k := min(len(p)-n, page-int(at%page), int(sparseSize-at))
		clear(p[n : n+k])
		if q := s[at/page]; q != nil {
			copy(p[n:n+k], q[at%page:])
		}
		n += k
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// write changes the image.
func (s sparse) write(p []byte, at int64) {
	for len(p) > 0 {
		if s[at/page] == nil {
			s[at/page] = new([page]byte)
		}
		n := copy(s[at/page][at%page:], p)
		p, at = p[n:], at+int64(n)
	}
}

// sealed makes the checksum of a structure of n bytes right and returns its first page.
func (s sparse) sealed(at, n int64) []byte {
	b := make([]byte, n)
	_, _ = s.ReadAt(b, at) // it never fails
	seal(b)
	s.write(b[:8], at)
	return b[:page]
}

// unfold makes an image of its parts. Its checksums are right.
func unfold(b []byte) sparse {
	s := sparse{}
	for _, f := range folds() {
		n := min(f.n, int64(len(b)))
		s.write(b[:n], f.at)
		b = b[n:]
	}
	s.sealed(header1, page)
	s.sealed(header2, page)
	s.write(s.sealed(regions1, 64*kib), regions2)
	s.sealLog()
	return s
}

// sealLog makes the checksums of the entries of the log right.
func (s sparse) sealLog() {
	for at := int64(0); at < logSize; at += page {
		first := s[(logAt+at)/page]
		if first == nil || string(first[:4]) != "loge" {
			continue
		}
		n := int64(binary.LittleEndian.Uint32(first[8:]))
		if n < page || n > 10*page {
			continue
		}
		e := make([]byte, n)
		_, _ = s.ReadAt(e[:min(n, logSize-at)], logAt+at) // it never fails
		_, _ = s.ReadAt(e[min(n, logSize-at):], logAt)
		seal(e)
		copy(first[:], e[:8])
	}
}

// parts returns the parts of an image.
func parts(img []byte) (b []byte) {
	for _, f := range folds() {
		b = append(b, img[f.at:f.at+f.n]...)
	}
	return b
}

// FuzzOpen fuzzes the parts of images that matter, with checksums that are right, and with a parent for images of differences. Whole images, which have five
// MiB, are too large to be fuzzed, and nearly all changes would end at a checksum.
func FuzzOpen(f *testing.F) {
	h := harness()
	open := h.Format.Open
	grown := func(b []byte) []byte { return append(b, make([]byte, 7*mib-len(b))...) }
	plain := grown(good(f))
	diff := grown(child(linked("relative_path", "base.vhdx"))(good(f)))
	log := withLog(
		logEntry{at: logSize - 2*page, tail: logSize - 2*page, sequence: 7, changes: []change{{at: batAt, data: pageOf(plain, batAt)}}},
		logEntry{at: 0, tail: logSize - 2*page, sequence: 8, last: 8 * mib, changes: []change{{at: block0, n: page}}},
	)(grown(good(f)))
	h.Format.Open = func(file image.File, o image.OpenOptions) (image.Reader, error) {
		b := make([]byte, file.Size())
		if n, _ := file.ReadAt(b, 0); n < 64 {
			return nil, image.ErrWrongFormat
		}
		o.Refs = parents{plain}
		return open(image.NewFile(unfold(b), sparseSize, "unfolded"), o)
	}
	for _, b := range [][]byte{plain, diff, log} {
		f.Add(parts(b))
	}
	imagetest.FuzzReader(f, h)
}
