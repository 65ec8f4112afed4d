package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/config"
)

// probeTime bounds a probe.
const probeTime = 15 * time.Second

// probe says what a host speaks on its port. Hyperplane answers TLS at once. A host of the Dominator ecosystem waits for a line of HTTP there: it answers the
// beginning of TLS with an error in plain text, or ends the connection. SRPC goes over to TLS after its first line and has its own verification, so that an answer
// that somebody on the way has made up lets nobody in.
func probe(ctx context.Context, address string, cfg *tls.Config) (protocol string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", unreachable(ctx, err)
	}
	defer conn.Close() //nolint:errcheck // nothing was asked
	cfg = cfg.Clone()
	if cfg.ServerName, _, err = net.SplitHostPort(address); err != nil {
		return "", fault.As(fault.InvalidArgument, err, "address %q", address)
	}
	// The second name is none that anybody speaks: its line end makes who reads lines answer what he got, instead of waiting for the rest of the line.
	cfg.NextProtos = []string{"h2", "\r\n\r\n"}
	err = tls.Client(conn, cfg).HandshakeContext(ctx)
	if _, other := errors.AsType[tls.RecordHeaderError](err); other {
		return config.ProtocolSRPC, nil
	}
	switch {
	case ctx.Err() != nil:
		return "", unreachable(ctx, errors.New("it takes the connection and says nothing"))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return config.ProtocolSRPC, nil
	default:
		return config.ProtocolGRPC, nil // also if they do not believe each other: the first call says why
	}
}

func unreachable(ctx context.Context, err error) error {
	if end := ctx.Err(); end != nil {
		return fault.As(fault.CodeOf(end), err, "connect")
	}
	return fault.As(fault.Unavailable, err, "connect")
}
