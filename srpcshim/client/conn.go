// Package client makes calls over the legacy SRPC protocol of the Dominator ecosystem, for hosts of that ecosystem from which VMs come here: a Conn looks like
// a gRPC connection to them. The generated table of methods (gen/srpc) says how requests and replies travel; the few methods with raw bytes behind their
// messages have a codec each. A method that SRPC does not have is Unimplemented.
//
// Only the secure gob endpoint is used, and nothing moves to a Unix socket. Unlike the stock clients, which verify nothing, the server's certificate is verified:
// its chain and what it may be used for, and its name unless the certificate has no subject alternative names at all, as those of that ecosystem often have
// not. Of such a server it is only known that the CA vouches for it: the CA should then be one for hosts alone.
//
// Hosts of that ecosystem let the bearer of a method power do anything with any VM. A caller here must not get that by way of this host's certificate, so calls are
// made on connections that give up these powers, but for the methods that nobody may call without.
//
// The source of what is said on the wire is the protocol as spoken by the stock clients and servers of that ecosystem.
package client

import (
	"context"
	"crypto/tls"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

const (
	// connectTime bounds the way to a connection that can be used, acceptTime the answer to a method line, for which a server has nothing to do.
	connectTime = 30 * time.Second
	acceptTime  = 30 * time.Second
	// idleLinks is how many connections of a kind are kept for later calls.
	idleLinks = 4
)

// Config says where the server is and who calls.
type Config struct {
	// Address is host:port.
	Address string
	// TLS has the client's certificate and the CAs to believe (none = the system's).
	TLS *tls.Config
}

// Conn is a server. A call has a connection for itself while it lasts.
type Conn struct {
	address string
	tls     *tls.Config
	methods map[string]wire.Method

	mu     sync.Mutex
	closed bool
	idle   map[bool][]*link // by whether they have the powers of the certificate
	open   map[*link]struct{}
}

var (
	_ grpc.ClientConnInterface = (*Conn)(nil)
	_ io.Closer                = (*Conn)(nil)
)

// Dial connects to a server. Unavailable if nobody answers there, or not with SRPC; PermissionDenied if one of the two does not believe the other.
func Dial(ctx context.Context, c Config) (*Conn, error) {
	conn := &Conn{
		address: c.Address, tls: c.TLS, methods: make(map[string]wire.Method), idle: make(map[bool][]*link), open: make(map[*link]struct{}),
	}
	for _, m := range srpc.Methods() {
		conn.methods[m.FullMethod] = m
	}
	first, err := conn.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	conn.release(first)
	return conn, nil
}

// Invoke implements grpc.ClientConnInterface.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := c.methods[method]
	if !ok {
		return toStatus(c.missing(method))
	}
	request, ok := args.(proto.Message)
	into, fits := reply.(proto.Message)
	if !ok || !fits {
		return toStatus(fault.New(fault.Internal, "%s: called with a %T for a %T", method, args, reply))
	}
	return toStatus(c.exchange(ctx, m, request, into))
}

// exchange makes one call of a request and a reply.
func (c *Conn) exchange(ctx context.Context, m wire.Method, request, into proto.Message) error {
	message, err := m.Request.Wire(request)
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "%s", m.Name)
	}
	powers, err := needsPower(m.FullMethod)
	if err != nil {
		return err
	}
	call, err := c.begin(ctx, m.Service+"."+m.Name, powers)
	if err != nil {
		return err
	}
	reply := m.Reply.New()
	err = call.exchange(message, reply)
	call.end(err)
	if err != nil {
		return call.why(err)
	}
	if failed, ok := reply.(wire.ErrorReply); ok && failed.ErrorText() != "" {
		return saying(failed.ErrorText())
	}
	return fill(into, func() (proto.Message, error) { return m.Reply.Proto(reply) })
}

// fill puts what a peer has said into a message. Texts that are not UTF-8 are refused, as gRPC does.
func fill(into proto.Message, convert func() (proto.Message, error)) error {
	m, err := convert()
	if err != nil {
		return fault.As(fault.DataLoss, err, "what the peer answered can not be used")
	}
	if _, err := proto.Marshal(m); err != nil {
		return fault.As(fault.DataLoss, err, "what the peer answered can not be used")
	}
	proto.Reset(into)
	proto.Merge(into, m)
	return nil
}

// missing is the error of a method that is not on SRPC.
func (c *Conn) missing(method string) error {
	return fault.New(fault.Unimplemented, "%s speaks only SRPC, which has no %s", c.address, method)
}
