package srpcshim

import (
	"context"
	"errors"
	"io"
	"net"
)

// lingerBytes bounds what is taken of a client that is still sending what has been refused.
const lingerBytes = 16 << 20

// told says whether the server ends a connection by its own will, after it has said why.
func told(err error) bool {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.Canceled) {
		return false
	}
	_, network := errors.AsType[net.Error](err)
	return !network
}

// linger takes for a while what the client still sends. A connection that is closed with unread bytes is reset, which breaks the client's sending, so that it
// would never read the last answer.
func (s *session) linger() {
	if !s.farewell || !s.life.rest(s.mux.opts.Limits.Linger) {
		return
	}
	if half, ok := s.conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	if half, ok := s.life.conn.(interface{ CloseWrite() error }); ok && s.conn != s.life.conn {
		_ = half.CloseWrite() // TLS has said it too
	}
	_, _ = io.CopyN(io.Discard, s.life.conn, lingerBytes) // what it is does not matter
}
