package replay_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// say sends what the stock client sent.
func (p *player) say(c *conn, s srpctest.Step) error {
	data := s.Data
	switch s.Kind {
	case "method":
		c.told, c.stock, c.ours, c.method, c.request = new(srpctest.Gob), new(srpctest.Gob), new(srpctest.Gob), s.Text, nil
		c.refused = false
	case "message":
		var err error
		if data, err = p.request(c, s); err != nil {
			return err
		}
	}
	if _, err := c.Write(data); err != nil && c.left > 2 { // otherwise only the ends of both sides are to come
		return err
	}
	return nil
}

// request returns a message as it was recorded or, if something in it is other here, encoded again.
func (p *player) request(c *conn, s srpctest.Step) ([]byte, error) {
	if c.json() {
		var v any
		if err := json.Unmarshal(s.Data, &v); err != nil {
			return s.Data, nil //nolint:nilerr // the recordings have some that are wrong on purpose
		}
		c.request, _ = v.(map[string]any)
		changed, ok := p.rewrite(v)
		if !ok && p.extras.ask == nil {
			return s.Data, nil
		}
		p.ask(s, changed)
		out, err := json.Marshal(changed)
		return append(out, '\n'), err
	}
	v, err := c.told.Read(bufio.NewReader(bytes.NewReader(s.Data)))
	if err != nil {
		return nil, err
	}
	c.request, _ = v.(map[string]any)
	changed, ok := p.rewrite(v)
	if !ok && p.extras.ask == nil {
		return s.Data, nil
	}
	p.ask(s, changed)
	return c.told.Rewrite(changed)
}

func (p *player) ask(s srpctest.Step, request any) {
	if m, ok := request.(map[string]any); ok && p.extras.ask != nil {
		p.extras.ask(s.Type, m)
	}
}

// hear reads what the server says where the stock server said something.
func (p *player) hear(c *conn, s srpctest.Step) error {
	switch s.Kind {
	case "status":
		return p.status(c, s)
	case "message":
		if p.extras.updates && s.Type == "Update" {
			return p.update(c, s)
		}
		return p.message(c, s)
	case "payload":
		return p.payload(c, s)
	case "text":
		line, err := c.in.ReadString('\n')
		if err == nil && strings.TrimSuffix(line, "\n") != s.Text {
			p.mismatch("text", s.Text, strings.TrimSuffix(line, "\n"))
		}
		return err
	case "pipe":
		if p.extras.pipe != nil {
			return p.extras.pipe(c, s)
		}
		got := make([]byte, len(s.Data))
		_, err := io.ReadFull(c.in, got)
		if err == nil && !bytes.Equal(got, s.Data) {
			p.mismatch("pipe", string(s.Data), string(got))
		}
		return err
	case "raw": // what the stock server says wrongly: that nothing of it comes here shows in what comes next
		return nil
	default:
		return fmt.Errorf("%s: not known", s.Kind)
	}
}

// payload reads raw bytes, as many as the server has announced.
func (p *player) payload(c *conn, s srpctest.Step) error {
	got := make([]byte, len(s.Data))
	for _, field := range []string{"Length", "Size"} {
		switch n := c.answer[field].(type) {
		case uint64:
			got = make([]byte, n)
		case float64:
			got = make([]byte, int(n))
		}
	}
	if _, err := io.ReadFull(c.in, got); err != nil {
		return err
	}
	sum := sha256.Sum256(got)
	if ours := hex.EncodeToString(sum[:]); len(got) != len(s.Data) || !s.Lost && s.SHA256 != "" && ours != s.SHA256 {
		p.mismatch("payload", fmt.Sprintf("%d bytes %.8s", len(s.Data), s.SHA256), fmt.Sprintf("%d bytes %.8s", len(got), ours))
	}
	return nil
}
