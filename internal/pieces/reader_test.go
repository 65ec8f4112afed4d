package pieces_test

import (
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/hyperplane-project/hyperplane/internal/pieces"
)

// next brings pieces, and then an error.
func next(err error, all ...string) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(all) == 0 {
			return nil, err
		}
		piece := all[0]
		all = all[1:]
		return []byte(piece), nil
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	r := pieces.NewReader([]byte("ab"), next(io.EOF, "", "cdef", "g"))
	if err := iotest.TestReader(r, []byte("abcdefg")); err != nil {
		t.Error(err)
	}
}

func TestReaderEndsWithTheStream(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := pieces.NewReader(nil, next(broken, "abc"))
	if n, err := r.Read(make([]byte, 2)); n != 2 || err != nil || r.Buffered() != 1 {
		t.Errorf("%d bytes, %v, %d left", n, err, r.Buffered())
	}
	if got, err := io.ReadAll(r); string(got) != "c" || !errors.Is(err, broken) || r.Buffered() != 0 {
		t.Errorf("%q, %v", got, err)
	}
}
