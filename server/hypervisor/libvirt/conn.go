package libvirt

import (
	"context"
	"net"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
)

// connectURI is what a connection asks libvirtd for. Which libvirtd that is, the socket says.
const connectURI = golibvirt.QEMUSystem

// lossGrace is how long the loss of a connection is kept from go-libvirt while it connects; see link.Read.
const lossGrace = 200 * time.Millisecond

// conn is one connection to libvirtd. go-libvirt's calls know no context: a call is cancelled by closing its connection, so each
// connection serves one caller at a time (see pool). A lost connection is never used again: go-libvirt's reconnecting has data races.
//
// The calls that pass file descriptors (DomainOpenGraphicsFd, DomainCreateWithFiles, DomainCreateXMLWithFiles, DomainFdAssociate) must
// never be used: they upset go-libvirt's reader, which then panics in a goroutine of its own.
type conn struct {
	*golibvirt.Libvirt

	link *link
}

// connect opens a connection. ctx ends the attempt.
func connect(ctx context.Context, socket string) (*conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, classify(err, "libvirt at %s cannot be reached", socket)
	}
	l := &link{Conn: raw, opened: make(chan struct{}), lost: make(chan struct{})}
	c := &conn{Libvirt: golibvirt.NewWithDialer(l), link: l}
	err = c.run(ctx, func() error { return c.ConnectToURI(connectURI) })
	close(l.opened)
	if err != nil {
		c.close()
		return nil, classify(err, "libvirt at %s cannot be reached", socket)
	}
	return c, nil
}

// run calls f, which uses the connection. If ctx ends first it closes the connection, which makes f return.
func (c *conn) run(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.close)
	err := f()
	if !stop() {
		c.close() // it may not have come to that yet
		if err != nil {
			return ctx.Err()
		}
	}
	return err // also if ctx ended when f was done already
}

// usable reports whether the connection was neither lost nor closed.
func (c *conn) usable() bool {
	select {
	case <-c.link.lost:
		return false
	default:
		return true
	}
}

// close ends the connection at once. libvirtd goes on with calls that were sent.
func (c *conn) close() { _ = c.link.Close() }

// link is a connection's socket. It is also the dialer that hands itself to go-libvirt.
type link struct {
	net.Conn

	opened chan struct{} // closed when ConnectToURI has returned
	once   sync.Once
	lost   chan struct{}
}

// Dial implements go-libvirt's socket.Dialer.
func (l *link) Dial() (net.Conn, error) { return l, nil }

// Read notices the end of the connection. While go-libvirt is connecting it must not learn of a loss between libvirtd's last answer and
// its own return, because it writes a field then that its cleanup reads. In any other case of a loss, waiting does no harm.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err != nil {
		l.markLost()
		timer := time.NewTimer(lossGrace)
		defer timer.Stop()
		select {
		case <-l.opened:
		case <-timer.C:
		}
	}
	return n, err
}

// Close closes the socket.
func (l *link) Close() error {
	l.markLost()
	return l.Conn.Close()
}

func (l *link) markLost() { l.once.Do(func() { close(l.lost) }) }
