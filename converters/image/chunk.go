package image

// ChunkReader is a Reader of a format with compressed content that can hand it out as it is stored, so that another compressed format takes it
// over without deflating again.
type ChunkReader interface {
	Reader
	// ReadChunks calls fn for the compressed units of [off, off+n), ascending. The range is inside one Data extent whose Compressed is true
	// and consists of whole units. A Chunk is valid during the call; its Release is nil. An error of fn ends the walk and is returned.
	ReadChunks(off, n int64, fn func(Chunk) error) error
}
