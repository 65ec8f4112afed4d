package qcow2

import (
	"encoding/binary"
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
	where   []location
}

// location is where the compressed bytes of one cluster lie. The length is an upper bound: the stream ends somewhere in its last sector.
type location struct{ host, n int64 }

func (r *reader) getScratch() *scratch {
	if s, ok := r.scratch.Get().(*scratch); ok {
		return s
	}
	return &scratch{plain: make([]byte, r.h.cluster())}
}

// locate finds the compressed cluster of off.
func (r *reader) locate(off int64) (location, error) {
	cover := r.h.l2Cover()
	table, err := r.l2Table(off / cover)
	if err != nil {
		return location{}, err
	}
	b, err := r.tables.From(table, r.h.cluster(), off%cover>>r.h.clusterBits, r.h.l2EntrySize())
	if err != nil {
		return location{}, err
	}
	l := r.h.compressedAt(binary.BigEndian.Uint64(b))
	if l.host >= r.f.Size() {
		return location{}, image.Truncatedf("qcow2: the content of offset %d is at offset %d, past the end of the file at %d", off, l.host, r.f.Size())
	}
	// The last sector may reach past the end of the file.
	return location{l.host, min(l.n, r.f.Size()-l.host)}, nil
}

// compressedAt decodes a compressed cluster descriptor. The number of offset bits depends on the cluster size.
func (h *header) compressedAt(entry uint64) location {
	entry &^= l2Compressed | copied
	offsetBits := 62 - (h.clusterBits - 8)
	host := int64(entry & (1<<offsetBits - 1))
	return location{host, (int64(entry>>offsetBits)+1)*512 - host&511}
}

// each calls fn with the compressed bytes of the clusters that overlap [off, off+n).
func (r *reader) each(s *scratch, off, n int64, fn func(cluster int64, data []byte) error) error {
	first := off &^ (r.h.cluster() - 1)
	s.where = s.where[:0]
	for c := first; c < off+n; c += r.h.cluster() {
		l, err := r.locate(c)
		if err != nil {
			return err
		}
		s.where = append(s.where, l)
	}
	for i, l := range s.where {
		data, err := s.ahead.Bytes(r.f, l.host, int(l.n), reach(s.where[i:]))
		if err != nil {
			return err
		}
		if err := fn(first+int64(i)*r.h.cluster(), data); err != nil {
			return err
		}
	}
	return nil
}

// maxReach is how far apart the first and the last of the clusters may be that are read together.
const maxReach = 1 << 20

// reach returns how many bytes from the first location on hold it and the locations that follow it closely.
func reach(where []location) int64 {
	end := where[0].host + where[0].n
	for _, l := range where[1:] {
		if l.host < end-1024 || l.host+l.n-where[0].host > maxReach {
			break
		}
		end = l.host + l.n
	}
	return end - where[0].host
}

// decode decompresses one cluster into dst, which is a whole cluster, and returns how many bytes of data the stream takes.
func (r *reader) decode(s *scratch, dst, data []byte, off int64) (int, error) {
	if r.zstd != nil {
		return r.decodeZstd(dst, data, off)
	}
	n, used, err := s.inflate.Decode(dst, data)
	switch {
	case errors.Is(err, inflate.ErrShortInput):
		return 0, image.Truncatedf("qcow2: the compressed cluster for offset %d ends early", off)
	case err != nil:
		return 0, image.Corruptf("qcow2: compressed cluster for offset %d: %v", off, err)
	case n != len(dst):
		return 0, image.Corruptf("qcow2: the compressed cluster for offset %d holds %d bytes, not %d", off, n, len(dst))
	}
	return used, nil
}

// ReadCompressed fills p from off; the range is inside one compressed extent.
func (r *reader) ReadCompressed(p []byte, off int64) error {
	s := r.getScratch()
	defer r.scratch.Put(s)
	return r.each(s, off, int64(len(p)), func(cluster int64, data []byte) error {
		if at := cluster - off; at >= 0 && at+r.h.cluster() <= int64(len(p)) {
			_, err := r.decode(s, p[at:at+r.h.cluster()], data, cluster)
			return err
		}
		if _, err := r.decode(s, s.plain, data, cluster); err != nil {
			return err
		}
		from := max(off, cluster)
		copy(p[from-off:], s.plain[from-cluster:])
		return nil
	})
}

// ReadChunks calls fn for the compressed clusters of [off, off+n). They are inflated before: only that tells where a stream ends.
func (r *reader) ReadChunks(off, n int64, fn func(image.Chunk) error) error {
	s := r.getScratch()
	defer r.scratch.Put(s)
	return r.each(s, off, n, func(cluster int64, data []byte) error {
		used, err := r.decode(s, s.plain, data, cluster)
		if err != nil {
			return err
		}
		size := int(min(r.h.cluster(), r.info.VirtualSize-cluster))
		c := image.Chunk{Off: cluster, Len: size, Data: data, Decode: func(dst []byte) error {
			copy(dst, s.plain[:size])
			return nil
		}}
		switch {
		case size < len(s.plain): // the stream is longer than the disk
		case r.zstd != nil:
			c.Zstd = data[:used]
		default:
			c.Deflate = data[:used]
		}
		return fn(c)
	})
}
