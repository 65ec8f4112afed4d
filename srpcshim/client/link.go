package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// link is a connection. It makes one call at a time.
type link struct {
	net.Conn
	in *bufio.Reader
	// powers says that the server takes the powers of the certificate into account.
	powers bool
}

// call is a link during one call. Type definitions travel once in each direction of a call, so that it has one encoder and one decoder.
type call struct {
	*link
	conn    *Conn
	ctx     context.Context //nolint:containedctx // of one call
	release func() bool     // ends the watching of ctx
	out     bytes.Buffer
	encoder *gob.Encoder
	input   *bounded
	decoder *gob.Decoder
}

// begin has the server accept a method line. A connection that has lain idle may be dead: then nothing was asked yet, and another one is used.
func (c *Conn) begin(ctx context.Context, line string, powers bool) (*call, error) {
	for {
		l, fresh := c.take(powers), false
		if l == nil {
			var err error
			if l, err = c.connect(ctx, powers); err != nil {
				return nil, err
			}
			fresh = true
		}
		k := c.newCall(ctx, l)
		err := k.start(line)
		if err == nil {
			return k, nil
		}
		k.end(err)
		if _, said := errors.AsType[*peerError](err); said || fresh || ctx.Err() != nil {
			return nil, k.why(err)
		}
	}
}

func (c *Conn) newCall(ctx context.Context, l *link) *call {
	k := &call{link: l, conn: c, ctx: ctx, input: &bounded{in: l.in}}
	k.encoder, k.decoder = gob.NewEncoder(&k.out), gob.NewDecoder(k.input)
	k.release = context.AfterFunc(ctx, func() { c.drop(l) })
	return k
}

// start sends a method line and reads the answer to it.
func (k *call) start(line string) error {
	if err := k.SetReadDeadline(time.Now().Add(acceptTime)); err != nil {
		return err
	}
	if _, err := io.WriteString(k, line+"\n"); err != nil {
		return err
	}
	if err := k.status(); err != nil {
		return err
	}
	return k.SetReadDeadline(time.Time{})
}

// status reads a status line. It is a peerError if it is not empty.
func (k *call) status() error {
	text, err := readLine(k.in)
	if err != nil {
		return err
	}
	if text != "" {
		return saying(text)
	}
	return nil
}

// exchange sends a request, and reads the status line and the reply.
func (k *call) exchange(request, reply any) error {
	if err := k.send(request); err != nil {
		return err
	}
	if err := k.status(); err != nil {
		return err
	}
	return k.receive(reply)
}

func (k *call) send(message any) error {
	k.out.Reset()
	if err := k.encoder.Encode(message); err != nil {
		return fault.As(fault.Internal, err, "message for SRPC")
	}
	_, err := k.Write(k.out.Bytes())
	return err
}

// receive reads a message. Decoders may panic on hostile bytes: that is an error like others.
func (k *call) receive(message any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.New(fault.DataLoss, "malformed message: %v", r)
		}
	}()
	k.input.left = maxMessage
	err = k.decoder.Decode(message)
	if _, broken := errors.AsType[net.Error](err); err == nil || broken || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return unexpected(err)
	}
	return fault.As(fault.DataLoss, err, "malformed message")
}

// end gives the connection back, or ends it if it is not known where the next answer begins. A peer that says no has said so completely, and nobody says more
// than was asked for.
func (k *call) end(err error) {
	_, said := errors.AsType[*peerError](err)
	if k.release() && (err == nil || said) && k.in.Buffered() == 0 && k.SetReadDeadline(time.Time{}) == nil {
		k.conn.release(k.link)
		return
	}
	k.conn.drop(k.link)
}

// why says what an error of the connection means.
func (k *call) why(err error) error {
	if err == nil {
		return nil
	}
	if end := k.ctx.Err(); end != nil {
		return fault.As(fault.CodeOf(end), end, "call of %s", k.conn.address)
	}
	if refusedByPeer(err) {
		return fault.As(fault.PermissionDenied, err, "the peer does not believe this host's certificate")
	}
	if fault.CodeOf(err) != fault.Unknown {
		return err
	}
	if _, said := errors.AsType[*peerError](err); said {
		return err
	}
	return fault.As(fault.Unavailable, err, "the connection to %s is broken", k.conn.address)
}
