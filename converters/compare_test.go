package converters_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	text := func(size int64, pieces ...imagetest.Piece) *imagetest.Disk {
		return &imagetest.Disk{Size: size, Pieces: pieces}
	}
	piece := func(off, n int64) imagetest.Piece {
		return imagetest.Piece{Off: off, Len: n, Content: imagetest.Random}
	}
	for name, c := range map[string]struct {
		a, b *imagetest.Disk
		want int64
	}{
		"equal":                    {text(5<<20, piece(1000, 4<<20)), text(5<<20, piece(1000, 4<<20)), -1},
		"empty":                    {text(0), text(0), -1},
		"other pieces, same bytes": {text(5<<20, piece(0, 3000), piece(3000, 4<<20)), text(5<<20, piece(0, 4<<20+3000)), -1},
		"data of zeros":            {text(9 << 20), text(9<<20, imagetest.Piece{Off: 77, Len: 3 << 20, Content: imagetest.Zeros}), -1},
		"one byte":                 {text(9<<20, piece(0, 5<<20)), text(9<<20, piece(0, 5<<20), piece(7<<20+5, 1)), 7<<20 + 5},
		"longer by zeros":          {text(1000, piece(0, 1000)), text(1024, piece(0, 1000)), -1},
		"longer by content":        {text(1000, piece(0, 1000)), text(2000, piece(0, 2000)), 1000},
		"sparse":                   {text(4<<40, piece(3<<40, 10)), text(4<<40, piece(3<<40, 9)), 3<<40 + 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 {
				if got, err := converters.Compare(t.Context(), c.a, c.b); err != nil || got != c.want {
					t.Errorf("first difference is at %d, %v; want %d", got, err, c.want)
				}
				c.a, c.b = c.b, c.a
			}
		})
	}
}
