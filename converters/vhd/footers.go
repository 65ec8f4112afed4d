package vhd

import (
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// footers are the two places where a file has its footer: at its end, and for all but fixed disks at its beginning. What is not there is nil.
type footers struct {
	tail, head *foundFooter
}

// foundFooter is a footer in a file.
type foundFooter struct {
	footer
	at    int64
	sound bool // the checksum is right
}

// readFooters looks at both places. Without a footer at either the file is of another format.
func readFooters(f image.File) (found footers, err error) {
	if found.tail, err = readFooter(f, f.Size()-footerSize, footerSize); err != nil {
		return footers{}, err
	}
	if found.tail == nil {
		if found.tail, err = readFooter(f, f.Size()-shortFooter, shortFooter); err != nil {
			return footers{}, err
		}
	}
	if found.head, err = readFooter(f, 0, footerSize); err != nil {
		return footers{}, err
	}
	if found.tail == nil && found.head == nil {
		return footers{}, image.ErrWrongFormat
	}
	return found, nil
}

// readFooter returns nil if there is no footer of n bytes at the given place.
func readFooter(f image.File, at, n int64) (*foundFooter, error) {
	if at < 0 {
		return nil, nil
	}
	b := make([]byte, footerSize)
	if k, err := f.ReadAt(b[:n], at); int64(k) < n {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, fault.Wrap(err, "vhd: read the footer at offset %d", at)
	}
	foot, sound, ok := parseFooter(b)
	if !ok {
		return nil, nil
	}
	return &foundFooter{foot, at, sound}, nil
}

// choose returns the footer to go by. The one at the end counts; the copy steps in for one that is missing or damaged.
func (s footers) choose(force bool) (footer, []string, error) {
	var warnings []string
	chosen := s.tail
	switch {
	case s.tail != nil && s.tail.sound:
		warnings = s.doubtCopy()
	case s.head != nil && s.head.sound && (s.tail == nil || s.tail.kind == s.head.kind):
		chosen = s.head
		warnings = []string{"vhd: the footer at the end of the file is missing or damaged; its copy at the beginning is used"}
	case !force:
		return footer{}, nil, s.refuse()
	default:
		if s.head != nil && (s.head.sound || s.tail == nil) {
			chosen = s.head
		}
		warnings = []string{"vhd: the image was opened with force: its footers have wrong checksums or contradict each other"}
	}
	if chosen == s.head && chosen.kind == fixed {
		return footer{}, nil, image.Truncatedf("vhd: the file begins with the footer of a fixed disk, which belongs to its end")
	}
	return chosen.footer, warnings, chosen.check()
}

// refuse is the error for footers neither of which can be relied on.
func (s footers) refuse() error {
	if s.head != nil && s.head.sound {
		return image.Corruptf("vhd: the damaged footer at the end of the file says %v, its copy at the beginning %v; to go by the copy, open the image with force",
			s.tail.kind, s.head.kind)
	}
	return image.Corruptf("vhd: no footer of the file has a right checksum; to read the image all the same, open it with force")
}

// doubtCopy looks at the copy of a footer that is right. Of a fixed disk there is none: what is at the beginning is the disk's own content.
func (s footers) doubtCopy() []string {
	switch {
	case s.tail.kind == fixed:
		return nil
	case s.head == nil || !s.head.sound:
		return []string{"vhd: the copy of the footer at the beginning of the file is missing or damaged"}
	case s.head.footer != s.tail.footer:
		return []string{"vhd: the footer and its copy at the beginning of the file differ; the footer is used"}
	}
	return nil
}

// end returns where the content of a file of size bytes must end.
func (s footers) end(size int64) int64 {
	if s.tail != nil {
		return s.tail.at
	}
	return size
}
