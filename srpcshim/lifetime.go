package srpcshim

import (
	"net"
	"sync"
	"time"
)

// lifetime says how long reads of a connection may take, and ends the connection between two calls when the server ends.
type lifetime struct {
	conn net.Conn

	mu           sync.Mutex
	busy, ending bool
}

// rest begins the wait for the client, which may take as long as d. False = the server ends; close the connection.
func (l *lifetime) rest(d time.Duration) bool { return l.change(false, d) }

// work begins a call, whose request may take as long as d. The server's end waits for it.
func (l *lifetime) work(d time.Duration) bool { return l.change(true, d) }

func (l *lifetime) change(busy bool, d time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		return false
	}
	l.busy = busy
	return l.conn.SetReadDeadline(time.Now().Add(d)) == nil
}

// move goes on with another connection. False = the server ends.
func (l *lifetime) move(to net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = to
	return !l.ending
}

// cut ends reading and writing at once.
func (l *lifetime) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.conn.SetDeadline(longAgo()) // closing it is ServeConn's
}

// end makes a wait for the client return at once; a call under way goes on to its end.
func (l *lifetime) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending = true; !l.busy {
		_ = l.conn.SetReadDeadline(longAgo()) // a closed connection has ended already
	}
}

func longAgo() time.Time { return time.Unix(1, 0) }
