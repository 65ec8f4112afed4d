package vcentersim

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // the API's manifests are SHA-1
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

func errEOF(off int64) error {
	if off < 0 {
		return fmt.Errorf("offset %d is negative", off)
	}
	return io.EOF
}

// encoded is a disk generation as leases serve it, in a file.
type encoded struct {
	path         string
	size         int64
	sha1, sha256 string
}

// streams makes each encoded stream once and keeps it.
type streams struct {
	dir    string
	encode Encoder

	mu   sync.Mutex
	made map[streamKey]*making
}

type streamKey struct {
	disk       *disk
	generation int
}

type making struct {
	done chan struct{}
	out  encoded
	err  error
}

// get returns the stream of a generation, making it if nobody has. ctx bounds the making, for those too who wait for it meanwhile; a
// failed making is tried again by the next call.
func (s *streams) get(ctx context.Context, d *disk, generation int) (encoded, error) {
	key := streamKey{d, generation}
	s.mu.Lock()
	m, running := s.made[key]
	if !running {
		m = &making{done: make(chan struct{})}
		s.made[key] = m
	}
	s.mu.Unlock()
	if running {
		select {
		case <-m.done:
			return m.out, m.err
		case <-ctx.Done():
			return encoded{}, ctx.Err()
		}
	}
	m.out, m.err = s.make(ctx, d.content.at(generation))
	if m.err != nil {
		s.mu.Lock()
		delete(s.made, key)
		s.mu.Unlock()
	}
	close(m.done)
	return m.out, m.err
}

func (s *streams) make(ctx context.Context, src image.Reader) (out encoded, err error) {
	f, err := os.CreateTemp(s.dir, "stream-*.vmdk")
	if err != nil {
		return encoded{}, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	h1, h2 := sha1.New(), sha256.New() //nolint:gosec // see the import
	w := bufio.NewWriterSize(io.MultiWriter(f, h1, h2), 1<<20)
	if err := s.encode(ctx, w, src); err != nil {
		return encoded{}, err
	}
	if err := w.Flush(); err != nil {
		return encoded{}, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return encoded{}, err
	}
	name, err := filepath.Abs(f.Name())
	return encoded{path: name, size: size, sha1: hex.EncodeToString(h1.Sum(nil)), sha256: hex.EncodeToString(h2.Sum(nil))}, err
}
