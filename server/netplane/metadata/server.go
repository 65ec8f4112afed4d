package metadata

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headerTimeout = 5 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 30 * time.Second
	maxHeader     = 8 << 10
	// maxConnections bounds the connections of all guests of a subnet, maxPerGuest those of one.
	maxConnections = 256
	maxPerGuest    = 16
)

// Serve serves a handler on a listener until ctx ends.
func Serve(ctx context.Context, ln net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           http.MaxBytesHandler(h, 0), // nobody has anything to tell us
		ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(&limited{Listener: ln, by: make(map[string]int)})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// limited closes connections beyond a number at once, in all and of one guest.
type limited struct {
	net.Listener
	mu  sync.Mutex
	all int
	by  map[string]int
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if release, ok := l.enter(c.RemoteAddr()); ok {
			return &counted{Conn: c, release: sync.OnceFunc(release)}, nil
		}
		_ = c.Close() // the guest asks again
	}
}

func (l *limited) enter(from net.Addr) (release func(), ok bool) {
	guest, _, err := net.SplitHostPort(from.String())
	if err != nil {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxConnections || l.by[guest] >= maxPerGuest {
		return nil, false
	}
	l.all++
	l.by[guest]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.by[guest]--; l.by[guest] == 0 {
			delete(l.by, guest)
		}
	}, true
}

type counted struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.release()
	return c.Conn.Close()
}
