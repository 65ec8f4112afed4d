package pieces_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
)

func TestSend(t *testing.T) {
	t.Parallel()
	for _, length := range []int{0, 1, pieces.Size, pieces.Size + 1, 3*pieces.Size - 1} {
		text := strings.Repeat("0123456789", 3*pieces.Size/10+1)
		var got bytes.Buffer
		err := pieces.Send(strings.NewReader(text), uint64(length), func(p []byte) error {
			if len(p) == 0 || len(p) > pieces.Size {
				t.Errorf("a piece of %d bytes", len(p))
			}
			got.Write(p)
			return nil
		})
		if err != nil || got.String() != text[:length] {
			t.Errorf("length %d: %d bytes, %v", length, got.Len(), err)
		}
	}
}

func TestSendOfTooLittle(t *testing.T) {
	t.Parallel()
	err := pieces.Send(strings.NewReader("abc"), 4, func([]byte) error { return nil })
	if !fault.Is(err, fault.Aborted) {
		t.Error(err)
	}
}
