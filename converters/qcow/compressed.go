package qcow

import (
	"errors"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/inflate"
	"github.com/hyperplane-project/hyperplane/converters/internal/prefetch"
)

// scratch is what one call needs to read compressed clusters.
type scratch struct {
	ahead   prefetch.Buffer
	inflate inflate.Decoder
	plain   []byte
}

// readAhead is how much is read at once: compressed clusters lie one behind the other.
const readAhead = 64 << 10

// ReadCompressed fills p from off; the range is inside one compressed extent.
func (r *reader) ReadCompressed(p []byte, off int64) error {
	s, ok := r.scratch.Get().(*scratch)
	if !ok {
		s = &scratch{plain: make([]byte, r.h.cluster())}
	}
	defer r.scratch.Put(s)
	for len(p) > 0 {
		in := off & (r.h.cluster() - 1)
		dst := s.plain
		if in == 0 && int64(len(p)) >= r.h.cluster() {
			dst = p[:r.h.cluster()]
		}
		if err := r.decode(s, dst, off-in, int64(len(p))+in); err != nil {
			return err
		}
		n := copy(p, dst[in:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// decode inflates the cluster at off into dst. left is how much from off on is asked for.
func (r *reader) decode(s *scratch, dst []byte, off, left int64) error {
	host, n, err := r.locate(off)
	if err != nil {
		return err
	}
	data, err := s.ahead.Bytes(r.f, host, int(n), min(left, readAhead))
	if err != nil {
		return err
	}
	got, _, err := s.inflate.Decode(dst, data)
	switch {
	case errors.Is(err, inflate.ErrShortInput):
		return image.Truncatedf("qcow: the compressed cluster for offset %d ends early", off)
	case err != nil:
		return image.Corruptf("qcow: compressed cluster for offset %d: %v", off, err)
	case got != len(dst):
		return image.Corruptf("qcow: the compressed cluster for offset %d holds %d bytes, not %d", off, got, len(dst))
	}
	return nil
}

// locate decodes the L2 entry of a compressed cluster: below bit 63 as many bits of length in bytes as the cluster size has, then the offset.
func (r *reader) locate(off int64) (host, n int64, err error) {
	entry, _, err := r.entry(off)
	if err != nil {
		return 0, 0, err
	}
	entry &^= l2Compressed
	offsetBits := 63 - r.h.clusterBits
	host, n = int64(entry&(1<<offsetBits-1)), int64(entry>>offsetBits)
	if host > r.f.Size()-n {
		return 0, 0, image.Truncatedf("qcow: the content of offset %d is %d bytes at offset %d, past the end of the file at %d", off, n, host, r.f.Size())
	}
	return host, n, nil
}
