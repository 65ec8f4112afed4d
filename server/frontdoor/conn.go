package frontdoor

import (
	"bufio"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/credentials"

	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// Conn is a connection whose first bytes have been looked at and whose peer is known as far as the connection says it.
type Conn struct {
	net.Conn
	reader *bufio.Reader // nil once nothing is buffered on this layer
	who    principal.Principal
	tls    *tls.ConnectionState

	spoken   atomic.Bool   // something was written
	waits    *list.Element // of waiting, which locks it
	admitted func()
}

// Read reads the bytes that were looked at, then the connection.
func (c *Conn) Read(p []byte) (int, error) {
	if c.reader == nil {
		return c.Conn.Read(p)
	}
	n, err := c.reader.Read(p)
	if c.reader.Buffered() == 0 {
		c.reader = nil // connections rest for long; nobody looks ahead any more
	}
	return n, err
}

// Principal returns whom the connection stands for.
func (c *Conn) Principal() principal.Principal { return c.who }

// ConnOf returns what the door knows of a connection that it handed to HTTP: also through the TLS layer.
func ConnOf(conn net.Conn) (*Conn, bool) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	c, ok := conn.(*Conn)
	return c, ok
}

// Handoff is a net.Listener whose connections come from a Door.
type Handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

// NewHandoff makes one; addr is what it says its address is.
func NewHandoff(addr net.Addr) *Handoff {
	return &Handoff{conns: make(chan net.Conn), done: make(chan struct{}), addr: addr}
}

func (h *Handoff) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		_ = conn.Close() // the server has ended; there is nobody to tell
	}
}

// Accept implements net.Listener.
func (h *Handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *Handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *Handoff) Addr() net.Addr { return h.addr }

// Credentials makes a gRPC server take over what the door found out about a connection: the handshake has been done.
func Credentials() credentials.TransportCredentials { return handedOn{} }

type handedOn struct{}

func (handedOn) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*Conn)
	if !ok {
		return nil, nil, errors.New("connection did not come through the front door")
	}
	info := AuthInfo{who: c.who}
	info.SecurityLevel = credentials.PrivacyAndIntegrity // TLS, or a connection that does not leave the host
	return conn, info, nil
}

func (handedOn) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("front door credentials are for servers")
}

func (handedOn) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "frontdoor"}
}
func (handedOn) Clone() credentials.TransportCredentials { return handedOn{} }
func (handedOn) OverrideServerName(string) error         { return nil }

// AuthInfo carries the principal of a connection to the interceptors.
type AuthInfo struct {
	credentials.CommonAuthInfo
	who principal.Principal
}

// AuthType implements credentials.AuthInfo.
func (AuthInfo) AuthType() string { return "frontdoor" }

// Principal implements intercept.Identified.
func (a AuthInfo) Principal() principal.Principal { return a.who }
