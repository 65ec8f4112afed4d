package replay_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// mismatch is something that the server said otherwise than the stock server.
type mismatch struct{ where, stock, ours string }

func (m mismatch) String() string {
	return fmt.Sprintf("%s: stock %q, ours %q", m.where, m.stock, m.ours)
}

func (p *player) mismatch(where string, stock, ours any) {
	n := 1
	for _, m := range p.differ {
		if plainWhere(m.where) == where {
			n++
		}
	}
	if n > 1 {
		where = fmt.Sprintf("%s#%d", where, n)
	}
	p.differ = append(p.differ, mismatch{where, fmt.Sprint(stock), fmt.Sprint(ours)})
}

// plainWhere is a place without its number.
func plainWhere(where string) string {
	plain, _, _ := strings.Cut(where, "#")
	return plain
}

// compared says which error lines clients compare or show for what they are: their text counts. Of the others, that they are there.
func compared(line string) bool {
	return line == "access to method denied" || strings.HasPrefix(line, "unknown service: ") || strings.Contains(line, ": unknown method: ") ||
		strings.HasPrefix(line, "malformed Service.Method: ")
}

// kept are texts of errors that are worth having like the stock server's.
func kept() []string {
	return []string{"no VM with IP address: ", "no access to resource"}
}

func (p *player) status(c *conn, s srpctest.Step) error {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimSuffix(line, "\n")
	if (line == "") != (s.Text == "") || compared(s.Text) && line != s.Text {
		p.mismatch("status", s.Text, line)
	}
	c.refused = line != "" && s.Text == ""
	return nil
}

// readAnswer reads a message of the server.
func (c *conn) readAnswer() (map[string]any, error) {
	var v any
	var err error
	if c.json() {
		var line []byte
		if line, err = c.in.ReadBytes('\n'); err == nil {
			err = json.Unmarshal(line, &v)
		}
	} else {
		v, err = c.ours.Read(c.in)
	}
	c.answer, _ = v.(map[string]any)
	return c.answer, err
}

func (p *player) message(c *conn, s srpctest.Step) error {
	var stock any
	var err error
	if c.json() {
		err = json.Unmarshal(s.Data, &stock)
	} else {
		stock, err = c.stock.Read(bufio.NewReader(bytes.NewReader(s.Data)))
	}
	if err != nil {
		return err
	}
	want, _ := stock.(map[string]any)
	if progress(want) {
		return nil
	}
	got, err := c.readAnswer()
	for err == nil && progress(got) {
		got, err = c.readAnswer()
	}
	if err != nil {
		return err
	}
	failed, _ := got["Error"].(string)
	stockFailed, _ := want["Error"].(string)
	c.refused = failed != "" && stockFailed == "" // there is nothing more to say in this call
	p.learn(s.Type, want, got)
	rewritten, _ := p.rewrite(want)
	sorted, _ := c.request["Sort"].(bool)
	r := rules{p, s.Type, sorted}
	r.compare(s.Type, r.plain(s.Type, rewritten), r.plain(s.Type, got))
	return nil
}

// progress says that a message is nothing but progress. There may be any number of such messages, and their texts are for people.
func progress(m map[string]any) bool {
	text, _ := m["ProgressMessage"].(string)
	final, _ := m["Final"].(bool)
	failed, _ := m["Error"].(string)
	return text != "" && !final && failed == ""
}

// learn notes what the server chose where the stock server had chosen something else: later requests name it.
func (p *player) learn(kind string, stock, ours map[string]any) {
	for _, field := range learned(kind) {
		switch was := stock[field].(type) {
		case []byte:
			if is, _ := ours[field].([]byte); len(was) > 0 && len(is) > 0 && !bytes.Equal(was, is) {
				p.values[hex.EncodeToString(was)] = hex.EncodeToString(is)
			}
		case string:
			if is, _ := ours[field].(string); was != "" && is != "" && was != is {
				p.texts = append(p.texts, [2]string{was, is})
			}
		}
	}
}

// rewrite returns a recorded value with what is other here, and whether anything is.
func (p *player) rewrite(v any) (any, bool) {
	changed := false
	switch v := v.(type) {
	case string:
		out := v
		for _, t := range p.texts {
			out = strings.ReplaceAll(out, t[0], t[1])
		}
		return out, out != v
	case []byte:
		if to, ok := p.values[hex.EncodeToString(v)]; ok {
			b, err := hex.DecodeString(to)
			if err != nil {
				p.t.Fatal(err)
			}
			return b, true
		}
		return v, false
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var c bool
			out[i], c = p.rewrite(v[i])
			changed = changed || c
		}
		return out, changed
	case map[string]any:
		out := make(map[string]any)
		for key, e := range v {
			var c bool
			out[key], c = p.rewrite(e)
			changed = changed || c
		}
		return out, changed
	}
	return v, false
}
