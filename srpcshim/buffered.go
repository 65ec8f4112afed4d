package srpcshim

import (
	"bufio"
	"errors"
	"io"
	"net"
)

// buffered is a connection some of whose bytes have been read into a buffer.
type buffered struct {
	net.Conn
	in *bufio.Reader // nil once it is empty
	// ended says that the peer closed the connection.
	ended bool
}

// Read reads the buffer, then the connection.
func (b *buffered) Read(p []byte) (int, error) {
	if b.in != nil && b.in.Buffered() == 0 {
		b.in = nil
	}
	var n int
	var err error
	if b.in != nil {
		n, err = b.in.Read(p)
	} else {
		n, err = b.Conn.Read(p)
	}
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}
