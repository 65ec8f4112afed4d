package prefetch_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/internal/prefetch"
)

// source counts reads.
type source struct {
	*strings.Reader
	reads int
}

func (s *source) ReadAt(p []byte, off int64) (int, error) {
	s.reads++
	return s.Reader.ReadAt(p, off)
}

func TestBytes(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 1000)
	s := &source{Reader: strings.NewReader(text)}
	var b prefetch.Buffer
	for _, c := range []struct {
		off    int64
		n      int
		ahead  int64
		want   string
		atMost int
	}{
		{0, 5, 1000, text[:5], 1},
		{990, 10, 10, text[990:1000], 1},
		{500, 100, 100, text[500:600], 1},
		{995, 10, 10, text[995:1005], 2},
		{9995, 10, 1000, text[9995:], 3},
		{9995, 5, 5, text[9995:], 3},
		{20000, 5, 5, "", 4},
		{0, 10000, 1 << 40, text, 5},
	} {
		got, err := b.Bytes(s, c.off, c.n, c.ahead)
		if err != nil || !bytes.Equal(got, []byte(c.want)) || s.reads > c.atMost {
			t.Errorf("%d bytes at %d: %q, %v after %d reads, want %q after %d", c.n, c.off, got, err, s.reads, c.want, c.atMost)
		}
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, io.ErrClosedPipe }

func TestError(t *testing.T) {
	t.Parallel()
	var b prefetch.Buffer
	if _, err := b.Bytes(broken{}, 0, 10, 10); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error is %v", err)
	}
	if got, err := b.Bytes(strings.NewReader("abc"), 0, 3, 3); err != nil || string(got) != "abc" {
		t.Errorf("after an error: %q, %v", got, err)
	}
}
