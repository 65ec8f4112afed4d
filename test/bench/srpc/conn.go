package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
)

// conn is an SRPC connection that reads answers without decoding them: it is the daemon that is measured.
type conn struct {
	net.Conn
	in *bufio.Reader
}

// dial opens a connection to the gob endpoint.
func (b bench) dial(ctx context.Context) (*conn, error) {
	config, err := b.TLS()
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(b.Address)
	if err != nil {
		return nil, err
	}
	config.ServerName = host
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", b.Address)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(raw, "CONNECT /_go_TLS_SRPC_/ HTTP/1.0\n\n"); err != nil {
		return nil, err
	}
	const answer = "HTTP/1.0 200 Connected to Go SRPC\r\n\r\n"
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(raw, got); err != nil || string(got) != answer {
		return nil, fmt.Errorf("CONNECT was answered %q: %w", got, err)
	}
	secured := tls.Client(raw, config)
	return &conn{secured, bufio.NewReaderSize(secured, 64<<10)}, secured.HandshakeContext(ctx)
}

// upgrade moves the connection to the Unix socket.
func (c *conn) upgrade(ctx context.Context) error {
	type one struct {
		Error, SocketPathname string
		ServerCookie          []byte
	}
	cookie, reply, agreed := []byte("8 bytes!"), new(one), new(one)
	out, in := gob.NewEncoder(c), gob.NewDecoder(c.in)
	if _, err := io.WriteString(c, ".LocalUpgradeToUnix\n"); err != nil {
		return err
	}
	if err := c.accepted(); err != nil {
		return err
	}
	if err := errors.Join(out.Encode(struct{ ClientCookie []byte }{cookie}), in.Decode(reply)); err != nil {
		return err
	}
	there, err := new(net.Dialer).DialContext(ctx, "unix", reply.SocketPathname)
	if err != nil {
		return err
	}
	if _, err := there.Write(reply.ServerCookie); err != nil {
		return err
	}
	ack := make([]byte, 1+len(cookie))
	if _, err := io.ReadFull(there, ack[:1]); err != nil {
		return err
	}
	if err := errors.Join(out.Encode(struct{ SentServerCookie bool }{true}), in.Decode(agreed)); err != nil {
		return err
	}
	if _, err := io.ReadFull(there, ack[1:]); err != nil {
		return err
	}
	err = c.Close()
	c.Conn, c.in = there, bufio.NewReaderSize(there, 64<<10)
	return err
}

// accepted reads a status line.
func (c *conn) accepted() error {
	line, err := c.in.ReadString('\n')
	if err == nil && line != "\n" {
		err = errors.New(line)
	}
	return err
}

// request is a call with its encoded message; without one it is a ping.
type request struct {
	method string
	raw    []byte
}

func newRequest(method string, message any) request {
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(message); err != nil {
		return request{} // all messages here can be encoded
	}
	return request{method, raw.Bytes()}
}

// call makes a call.
func (c *conn) call(r request) error {
	if _, err := io.WriteString(c, r.method+"\n"); err != nil {
		return err
	}
	if err := c.accepted(); err != nil || r.method == "" {
		return err
	}
	if _, err := c.Write(r.raw); err != nil {
		return err
	}
	if err := c.accepted(); err != nil {
		return err
	}
	_, err := c.message(nil)
	return err
}

// message reads one message into the buffer: parts, each a length and that many bytes, which begin with a type number, negative in all but the last.
func (c *conn) message(into []byte) ([]byte, error) {
	for {
		length, err := c.number()
		if err != nil {
			return nil, err
		}
		at := len(into)
		into = append(into, make([]byte, length)...)
		if _, err := io.ReadFull(c.in, into[at:]); err != nil {
			return nil, err
		}
		first, sign := into[at], into[at]
		if first >= 0x80 {
			sign = into[at-int(int8(first))] // the last byte of the number
		}
		if sign&1 == 0 {
			return into, nil
		}
	}
}

func (c *conn) number() (uint64, error) {
	first, err := c.in.ReadByte()
	if err != nil || first < 0x80 {
		return uint64(first), err
	}
	var v uint64
	for range -int(int8(first)) {
		b, err := c.in.ReadByte()
		if err != nil {
			return 0, err
		}
		v = v<<8 | uint64(b)
	}
	return v, nil
}
