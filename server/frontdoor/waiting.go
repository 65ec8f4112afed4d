package frontdoor

import (
	"container/list"
	"net"
	"sync"
	"time"
)

// defaultWaiting is how many connections may be there whose clients have not said who they are. Each has a file descriptor and some 20 KiB of memory.
const defaultWaiting = 2048

// waiting are the connections whose clients have not said yet what they speak, or who they are. There is room for so many; then the one that has waited
// longest makes room, so that clients that never finish do not keep out those that do at once.
type waiting struct {
	mu    sync.Mutex
	conns list.List // of *Conn, the oldest first
}

// add notes a connection.
func (w *waiting) add(conn *Conn, room int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn.waits = w.conns.PushBack(conn)
	if w.conns.Len() > room {
		w.refuse()
	}
}

// remove is called when the client has said who it is, or has gone.
func (w *waiting) remove(conn *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if conn.waits != nil {
		w.conns.Remove(conn.waits)
		conn.waits = nil
	}
}

// relieve makes room for one more connection.
func (w *waiting) relieve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse()
}

// refuse ends the connection that has waited longest.
func (w *waiting) refuse() {
	oldest := w.conns.Front()
	if oldest == nil {
		return
	}
	conn, _ := w.conns.Remove(oldest).(*Conn)
	conn.waits = nil
	conn.refuse()
}

// crowded is what a client is told that has not begun with TLS.
const crowded = "HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n" +
	"Too many connections wait for their clients to say who they are, and this one has waited longest. Try again.\n"

// refuse ends a connection from outside: who reads it finds its end.
func (c *Conn) refuse() {
	if !c.spoken.Load() { // not in the middle of something
		_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // the socket's buffer is empty
		_, _ = c.Conn.Write([]byte(crowded))
	}
	_ = c.Close()
}

// Admitted says that the client has said who it is.
func (c *Conn) Admitted() {
	if c.admitted != nil {
		c.admitted()
	}
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.spoken.Store(true)
	return c.Conn.Write(p)
}

// CloseWrite ends what is said on the connection.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return net.ErrClosed
}
