package mapped

import "github.com/hyperplane-project/hyperplane/converters/image"

// Piece is what one table entry says: a kind that holds for the next N bytes. Host is -1 unless the content is plain in the file In.
type Piece struct {
	Kind       image.Kind
	Compressed bool
	Host       int64
	In         image.File
	N          int64
}

// Merge joins the pieces from off on to the run that begins there, no longer than limit. lookup returns the piece at an offset.
func Merge(lookup func(off int64) (Piece, error), off, limit int64) (image.Extent, error) {
	first, err := lookup(off)
	if err != nil {
		return image.Extent{}, err
	}
	e := image.Extent{Off: off, Len: min(first.N, limit), Kind: first.Kind, Host: first.Host, In: first.In, Compressed: first.Compressed}
	for n := 0; e.Len < limit && n < MaxEntries; n++ {
		next, ok := follows(lookup, e)
		if !ok {
			break
		}
		e.Len = min(e.Len+next, limit)
	}
	return e, nil
}

// follows returns how far the piece behind e goes on with it. If that piece is damaged it does not: whoever asks for its offset gets the error.
func follows(lookup func(off int64) (Piece, error), e image.Extent) (int64, bool) {
	next, err := lookup(e.Off + e.Len)
	if err != nil || next.Kind != e.Kind || next.Compressed != e.Compressed || e.Host >= 0 && (next.Host != e.Host+e.Len || next.In != e.In) {
		return 0, false
	}
	return next.N, true
}
