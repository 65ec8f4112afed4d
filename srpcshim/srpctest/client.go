// Package srpctest is a client of the SRPC protocol for tests, and makes the certificates that such clients show. It was written from the
// description of the protocol alone and must not use srpcshim or gen/srpc: what both had wrong would go unseen.
package srpctest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// The endpoints.
const (
	SecureGob  = "/_go_TLS_SRPC_/"
	SecureJSON = "/_SRPC_/TLS/JSON"
	PlainGob   = "/_goSRPC_/"
	PlainJSON  = "/_SRPC_/unsecured/JSON"
)

// Refused is an error line: instead of the acceptance of a method, or instead of a reply.
type Refused struct {
	Text string
	// Accepted says that the method had been accepted.
	Accepted bool
}

// Error implements error.
func (r *Refused) Error() string { return r.Text }

// Client is a connection. It makes one call at a time.
type Client struct {
	net.Conn
	In *bufio.Reader
	// Path is the endpoint.
	Path string
	json bool
}

// Connect sends a CONNECT request on conn and returns the status line and the header, without the empty line.
func Connect(conn net.Conn, in *bufio.Reader, request string) ([]string, error) {
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, err
	}
	var lines []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return lines, err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return lines, nil
		}
		lines = append(lines, line)
	}
}

// Dial opens a connection to an endpoint. config is used on the secure ones. The connection ends with the test.
func Dial(ctx context.Context, tb testing.TB, network, address, path string, config *tls.Config) (*Client, error) {
	tb.Helper()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { _ = conn.Close() }) // a test may have closed it
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return nil, err
		}
	}
	in := bufio.NewReader(conn)
	lines, err := Connect(conn, in, "CONNECT "+path+" HTTP/1.0\n\n")
	if err != nil {
		return nil, err
	}
	if code, reason, _ := strings.Cut(strings.TrimPrefix(lines[0], "HTTP/1.0 "), " "); code != "200" || reason != "Connected to Go SRPC" {
		return nil, fmt.Errorf("CONNECT answered %q", lines[0])
	}
	c := &Client{Conn: conn, In: in, Path: path, json: strings.Contains(path, "JSON")}
	if strings.Contains(path, "TLS") {
		secured := tls.Client(conn, config)
		c.Conn, c.In = secured, bufio.NewReader(secured)
		return c, secured.HandshakeContext(ctx)
	}
	return c, nil
}

// Call makes a request/reply call.
func (c *Client) Call(method string, request, reply any) error {
	if err := c.Start(method); err != nil {
		return err
	}
	if err := c.Send(request); err != nil {
		return err
	}
	if err := c.Status(true); err != nil {
		return err
	}
	return c.Receive(reply)
}

// Ping sends an empty method line.
func (c *Client) Ping() error { return c.Start("") }

// Start sends a method line and returns the server's answer to it.
func (c *Client) Start(method string) error {
	if _, err := io.WriteString(c, method+"\n"); err != nil {
		return err
	}
	return c.Status(false)
}

// Status reads a status line.
func (c *Client) Status(accepted bool) error {
	line, err := c.In.ReadString('\n')
	if err != nil {
		return err
	}
	if line != "\n" {
		return &Refused{strings.TrimSuffix(line, "\n"), accepted}
	}
	return nil
}

// Send sends a message.
func (c *Client) Send(message any) error {
	if c.json {
		return json.NewEncoder(c).Encode(message)
	}
	return gob.NewEncoder(c).Encode(message)
}

// Receive reads a message.
func (c *Client) Receive(message any) error {
	if !c.json {
		return gob.NewDecoder(c.In).Decode(message)
	}
	line, err := c.In.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, message)
}

// Conversation is a call with several messages, whose type definitions travel once each way.
type Conversation struct {
	*Client
	out *gob.Encoder
	in  *gob.Decoder
}

// Converse sends a method line.
func (c *Client) Converse(method string) (*Conversation, error) {
	return &Conversation{c, gob.NewEncoder(c), gob.NewDecoder(c.In)}, c.Start(method)
}

// Send sends a message.
func (c *Conversation) Send(message any) error {
	if c.json {
		return c.Client.Send(message)
	}
	return c.out.Encode(message)
}

// Receive reads a message.
func (c *Conversation) Receive(message any) error {
	if c.json {
		return c.Client.Receive(message)
	}
	return c.in.Decode(message)
}
