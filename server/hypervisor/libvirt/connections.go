package libvirt

import (
	"net"
	"sync"
)

// connections are sockets that were handed out and end with the driver. The zero value is ready to use.
type connections struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// track takes a socket on. It closes the socket if the driver is closed already.
func (s *connections) track(conn net.Conn) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return nil, errClosed()
	}
	if s.open == nil {
		s.open = make(map[net.Conn]struct{})
	}
	s.open[conn] = struct{}{}
	return &trackedConn{Conn: conn, set: s}, nil
}

func (s *connections) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.open {
		_ = conn.Close()
	}
	s.open = nil
}

// trackedConn leaves its set when it is closed.
type trackedConn struct {
	net.Conn

	set *connections
}

// Close closes the socket.
func (c *trackedConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c.Conn)
	c.set.mu.Unlock()
	return c.Conn.Close()
}
