package engine_test

import (
	"errors"
	"io"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// sink is a writer that keeps nothing.
type sink struct{}

func (sink) Unit() int64                              { return 4096 }
func (sink) Finish() error                            { return nil }
func (sink) Place(off, n int64) (int64, int64, error) { return off, n, nil }
func (sink) WriteAt(p []byte, _ int64) (int, error)   { return len(p), nil }
func (sink) ReadAt([]byte, int64) (int, error)        { return 0, io.EOF }
func (sink) Truncate(int64) error                     { return nil }

// oddReader returns an extent of the test's choice.
type oddReader struct {
	image.Reader
	e image.Extent
}

func (o oddReader) NextExtent(int64) (image.Extent, error) { return o.e, nil }

// TestReaderContract checks that a reader that breaks its contract is an error of ours, not an endless loop or a crash.
func TestReaderContract(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 1 << 20}
	for name, e := range map[string]image.Extent{
		"empty": {Off: 0, Len: 0}, "negative": {Off: 0, Len: -1}, "elsewhere": {Off: 5, Len: 10}, "too long": {Off: 0, Len: 1<<20 + 1},
	} {
		if err := engine.Copy(t.Context(), oddReader{disk, e}, sink{}, sink{}, engine.Options{}); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: error is %v, want Internal", name, err)
		}
	}
	e := image.Extent{Len: 1 << 20}
	if err := engine.Copy(t.Context(), oddReader{&shortReader{disk}, e}, sink{}, sink{}, engine.Options{}); !errors.Is(err, image.ErrTruncated) {
		t.Errorf("a source that ends inside its data: %v, want ErrTruncated", err)
	}
}

// shortReader has less than it says.
type shortReader struct{ *imagetest.Disk }

func (s *shortReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 1000 {
		return int(max(0, 1000-off)), io.EOF
	}
	return s.Disk.ReadAt(p, off)
}

// panicReader has a mistake.
type panicReader struct{ image.Reader }

func (panicReader) ReadAt(p []byte, _ int64) (int, error) { return int(p[len(p)]), nil }

// TestPanic checks that a mistake in a format ends the copy, not the process.
func TestPanic(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 1 << 20, Pieces: []imagetest.Piece{{Off: 0, Len: 1 << 20, Content: imagetest.Text}}}
	if err := engine.Copy(t.Context(), panicReader{disk}, sink{}, sink{}, engine.Options{}); !fault.Is(err, fault.Internal) {
		t.Errorf("error is %v, want Internal", err)
	}
}

// chunks is a stream of the test's choice. It counts what is given back.
type chunks struct {
	unit     int64
	list     []image.Chunk
	end      error
	given    int
	released int
}

func (c *chunks) Info() image.Info { return image.Info{VirtualSize: 1 << 20, ClusterSize: c.unit} }
func (c *chunks) Close() error     { return nil }

func (c *chunks) Next() (image.Chunk, error) {
	if c.given == len(c.list) {
		return image.Chunk{}, c.end
	}
	chunk := c.list[c.given]
	c.given++
	chunk.Release = func() { c.released++ }
	if chunk.Decode == nil {
		chunk.Decode = func([]byte) error { return nil }
	}
	return chunk, nil
}

// TestStreamContract checks that odd chunks are errors and that each chunk is given back once, whatever happens.
func TestStreamContract(t *testing.T) {
	t.Parallel()
	errStream, errDecode := errors.New("stream"), errors.New("decode")
	good := image.Chunk{Off: 0, Len: 4096}
	for name, c := range map[string]struct {
		stream *chunks
		want   error
		code   fault.Code
	}{
		"good":             {&chunks{unit: 4096, list: []image.Chunk{good, {Off: 8192, Len: 4096}}, end: io.EOF}, nil, fault.OK},
		"error":            {&chunks{unit: 4096, list: []image.Chunk{good}, end: errStream}, errStream, fault.Unknown},
		"decode fails":     {&chunks{unit: 4096, list: []image.Chunk{good, {Off: 4096, Len: 4096, Decode: func([]byte) error { return errDecode }}, {Off: 8192, Len: 4096}}, end: io.EOF}, errDecode, fault.Unknown},
		"unit 0":           {&chunks{unit: 0, end: io.EOF}, nil, fault.Internal},
		"unit 1000":        {&chunks{unit: 1000, end: io.EOF}, nil, fault.Internal},
		"not aligned":      {&chunks{unit: 4096, list: []image.Chunk{good, {Off: 512, Len: 4096}}, end: io.EOF}, nil, fault.Internal},
		"too long":         {&chunks{unit: 4096, list: []image.Chunk{{Off: 0, Len: 8192}}, end: io.EOF}, nil, fault.Internal},
		"too short":        {&chunks{unit: 4096, list: []image.Chunk{{Off: 0, Len: 512}}, end: io.EOF}, nil, fault.Internal},
		"past the end":     {&chunks{unit: 4096, list: []image.Chunk{{Off: 1 << 20, Len: 4096}}, end: io.EOF}, nil, fault.Internal},
		"before the start": {&chunks{unit: 4096, list: []image.Chunk{{Off: -4096, Len: 4096}}, end: io.EOF}, nil, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := engine.CopyStream(t.Context(), c.stream, sink{}, sink{}, engine.Options{Workers: 1})
			if c.want != nil && !errors.Is(err, c.want) || fault.CodeOf(err) != c.code {
				t.Errorf("error is %v, want %v, code %d", err, c.want, c.code)
			}
			if c.stream.released != c.stream.given {
				t.Errorf("%d of %d chunks were given back", c.stream.released, c.stream.given)
			}
		})
	}
}
