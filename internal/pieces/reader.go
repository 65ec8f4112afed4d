package pieces

// Reader reads the pieces of a stream one after the other. Make one with NewReader.
type Reader struct {
	next func() ([]byte, error)
	rest []byte
}

// NewReader reads first and then the pieces that next gets; its error, io.EOF at the end, is the Reader's.
func NewReader(first []byte, next func() ([]byte, error)) *Reader {
	return &Reader{next: next, rest: first}
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		var err error
		if r.rest, err = r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Buffered returns how many bytes of the last piece have not been read.
func (r *Reader) Buffered() int { return len(r.rest) }
