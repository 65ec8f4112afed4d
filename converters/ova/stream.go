package ova

import (
	"archive/tar"
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// stream reads the only disk of an archive that comes front to back.
type stream struct {
	image.Stream
	a       archive
	tar     *tar.Reader
	name    string
	members int
}

// openStream goes to the first disk.
func (a archive) openStream(r io.Reader, _ int64) (image.Stream, error) {
	s := &stream{a: a, tar: tar.NewReader(r)}
	h, err := s.next()
	switch {
	case errors.Is(err, tar.ErrHeader) && s.members == 0:
		return nil, image.ErrWrongFormat
	case errors.Is(err, io.EOF):
		return nil, fault.New(fault.InvalidArgument, "ova: there is no disk in the archive")
	case err != nil:
		return nil, damaged(err)
	}
	s.name = h.Name
	format, _ := a.formatOf(h.Name)
	if format.OpenStream == nil {
		return nil, image.Unsupportedf("ova: member %q of format %s cannot be read from a stream; give a file", h.Name, format.Name)
	}
	s.Stream, err = format.OpenStream(s.tar, h.Size)
	if errors.Is(err, image.ErrWrongFormat) {
		return nil, image.Corruptf("ova: member %q is not of format %s", h.Name, format.Name)
	}
	return s, fault.Wrap(err, "ova: member %q", h.Name)
}

// next goes to the next disk.
func (s *stream) next() (*tar.Header, error) {
	for ; ; s.members++ {
		h, err := s.tar.Next()
		if err != nil {
			return nil, err
		}
		if s.members >= maxMembers {
			return nil, image.Limitf("ova: the archive has more than %d members", maxMembers)
		}
		if _, ok := s.a.formatOf(h.Name); ok && h.Typeflag == tar.TypeReg {
			s.members++
			return h, nil
		}
	}
}

// Info describes the disk.
func (s *stream) Info() image.Info {
	info := s.Stream.Info()
	info.Variant, info.Format = info.Format+" "+info.Variant, name
	return info
}

// Next returns the next chunk. Behind the disk it reads the archive to its end: a second disk is an error, for it would be left out.
func (s *stream) Next() (image.Chunk, error) {
	c, err := s.Stream.Next()
	if !errors.Is(err, io.EOF) {
		return c, fault.Wrap(err, "ova: member %q", s.name)
	}
	h, err := s.next()
	if err == nil {
		return c, fault.New(fault.InvalidArgument, "ova: the archive has a second disk, %q; give a file and choose a member", h.Name)
	}
	if errors.Is(err, io.EOF) {
		return c, io.EOF
	}
	return c, damaged(err)
}

var _ image.Stream = (*stream)(nil)
