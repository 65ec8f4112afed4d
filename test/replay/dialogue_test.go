package replay_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// player plays a recording against the server.
type player struct {
	*world
	name   string
	script *srpctest.Script
	conns  []*conn
	// differ is what the server said otherwise.
	differ []mismatch
	extras extras
	count  map[string]int
}

// conn is a connection, with the call that is under way.
type conn struct {
	net.Conn
	in *bufio.Reader
	// about is the connection of the recording, left the steps of it that are still to come.
	about   srpctest.ScriptConn
	left    int
	closed  bool
	leaving bool
	// refused says that our server did not let the call in.
	refused bool
	// told reads the client's messages, stock and ours those of the servers.
	told, stock, ours *srpctest.Gob
	method            string
	request           map[string]any
	// answer is what our server said last.
	answer map[string]any
	views  views
}

// play plays a recording and returns what was different.
func (w *world) play(name string, extras extras) []mismatch {
	w.t.Helper()
	p := &player{
		world: w, name: name, script: srpctest.ReadScript(w.t, filepath.Join(w.suite.dir, name+".jsonl"), w.suite.bulk),
		extras: extras, count: make(map[string]int),
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for _, about := range p.script.Conns {
		p.conns = append(p.conns, &conn{about: about})
	}
	defer p.hangUp()
	for _, s := range p.script.Steps {
		p.conns[s.Conn-1].left++
	}
	for i, s := range p.script.Steps {
		c := p.conns[s.Conn-1]
		c.left--
		if s.Synthetic || p.extras.skip != nil && p.extras.skip(s) || p.skipped(c) || c.refused && s.Kind != "method" && s.Kind != "eof" {
			continue
		}
		if err := p.step(ctx, c, s); err != nil {
			w.t.Fatalf("step %d of %d, connection %d, %s %s %s: %v; different until then: %v", i, len(p.script.Steps), s.Conn, s.Kind, s.Type, s.Text, err, p.differ)
		}
	}
	if p.extras.after != nil {
		p.extras.after(ctx, p)
	}
	return p.differ
}

// json says which codec the connection has.
func (c *conn) json() bool { return strings.Contains(c.about.Path, "JSON") }

func (p *player) hangUp() {
	for _, c := range p.conns {
		if c.Conn != nil {
			_ = c.Close() // the server may have closed it
		}
	}
}

// skipped says that a connection was answered by the recorder itself, or is the business of our own servers.
func (p *player) skipped(c *conn) bool {
	return c.about.Note != "" && strings.Contains(c.about.Note, "404") || p.extras.ours != nil && p.extras.ours(c.about)
}

func (p *player) step(ctx context.Context, c *conn, s srpctest.Step) error {
	if s.Type != "Update" || p.during(s) != nil {
		if err := p.settle(c); err != nil {
			return err
		}
	}
	if hook := p.during(s); hook != nil {
		hook(ctx, p)
	}
	p.count[kindOf(s)]++
	switch {
	case s.Kind == "tcp" && s.Client:
		return p.connect(ctx, c, s)
	case s.Kind == "tcp":
		return p.connected(ctx, c, s)
	case s.Kind == "eof":
		return p.end(c, s)
	case s.Client:
		return p.say(c, s)
	default:
		return p.hear(c, s)
	}
}

// during returns what is done before a step.
func (p *player) during(s srpctest.Step) func(context.Context, *player) {
	return p.extras.during[fmt.Sprintf("%s#%d", kindOf(s), p.count[kindOf(s)]+1)]
}

func kindOf(s srpctest.Step) string { return cmp.Or(s.Type, s.Kind) }

func (p *player) connect(ctx context.Context, c *conn, s srpctest.Step) error {
	if c.Conn == nil {
		address := p.Addr
		if c.about.Server == "second" {
			address = p.second.Addr
		}
		var err error
		if c.Conn, err = new(net.Dialer).DialContext(ctx, "tcp", address); err != nil {
			return err
		}
		c.in = bufio.NewReader(c.Conn)
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
	}
	_, err := c.Write(s.Data)
	return err
}

// connected reads the answer to CONNECT: the code and, of the good one, the text count.
func (p *player) connected(ctx context.Context, c *conn, s srpctest.Step) error {
	if !bytes.HasPrefix(s.Data, []byte("HTTP/")) {
		return nil // the page of a refusal
	}
	line, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	stock, _, _ := strings.Cut(string(s.Data), "\n")
	stock, ours := strings.TrimSpace(stock), strings.TrimSpace(line)
	good := strings.HasPrefix(stock, "HTTP/1.0 200")
	if good && stock != ours || !good && code(stock) != code(ours) {
		p.mismatch("CONNECT", stock, ours)
	}
	for line = "+"; strings.TrimSpace(line) != ""; {
		if line, err = c.in.ReadString('\n'); err != nil {
			return err
		}
	}
	if !good || c.about.TLS == "" {
		return nil
	}
	cfg := srpctest.Shows()
	if c.about.Identity != "" {
		cert, ok := p.people.certs[c.about.Identity]
		if !ok {
			return fmt.Errorf("who is %s?", c.about.Identity)
		}
		cfg = srpctest.Shows(cert)
	}
	secured := tls.Client(c.Conn, cfg)
	c.Conn, c.in = secured, bufio.NewReader(secured)
	return secured.HandshakeContext(ctx)
}

func code(line string) string { return strings.Join(append(strings.Fields(line), "", "")[1:2], "") }

// end ends the client's side if the server has no more to say, or expects the server to end.
func (p *player) end(c *conn, s srpctest.Step) error {
	if s.Client {
		if c.left <= 1 || p.extras.leaves {
			c.closed = true
			_ = c.Close() // the server may have closed it first
			return nil
		}
		c.leaving = true // when the server has said all
		return nil
	}
	if c.closed || c.leaving {
		return nil
	}
	c.closed = c.left == 0
	if _, err := c.in.Peek(1); err != nil {
		return nil //nolint:nilerr // an end of any kind
	}
	if c.method == "" {
		rest, err := io.ReadAll(c.in) // the page of a refusal
		if len(rest) > 1000 {
			err = errors.Join(err, fmt.Errorf("%d bytes where the server should end", len(rest)))
		}
		return err
	}
	answer := make(map[string]any)
	line, err := c.in.ReadString('\n')
	if err == nil && line == "\n" {
		answer, err = c.readAnswer()
	}
	p.mismatch("end", "", fmt.Sprintf("%q %v", strings.TrimSpace(line), answer))
	return err
}
