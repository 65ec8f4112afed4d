package srpcshim_test

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// recording is one connection of a recording: its header and, in turns, what client and server sent after CONNECT.
type recording struct {
	identity, path string
	turns          []turn
}

type turn struct {
	client bool
	data   []byte
	parts  []recordedPart
}

type recordedPart struct {
	Kind, What, Type, Text string
}

func readRecording(t *testing.T, name string) recording {
	t.Helper()
	dir := os.Getenv("HYPERPLANE_TRANSCRIPTS")
	if dir == "none" {
		t.Skip("HYPERPLANE_TRANSCRIPTS=none")
	}
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "srpc-transcripts")
	}
	raw, err := os.ReadFile(filepath.Join(dir, name+".jsonl"))
	if err != nil {
		t.Fatalf("recordings of stock clients: %v; set HYPERPLANE_TRANSCRIPTS to their folder, or to none to do without", err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	var head struct {
		Identity    string
		Connections []struct{ Path string }
	}
	if err := json.Unmarshal(lines[0], &head); err != nil || len(head.Connections) != 1 {
		t.Fatalf("%s: %d connections, %v", name, len(head.Connections), err)
	}
	r := recording{identity: head.Identity, path: head.Connections[0].Path}
	for _, line := range lines[1:] {
		var l struct {
			Dir, Layer, Hex string
			EOF             bool
			Decoded         []recordedPart
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(l.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if l.Layer == "" && !l.EOF {
			r.turns = append(r.turns, turn{l.Dir == "c>s", data, l.Decoded})
		}
	}
	return r
}

// TestReplay sends what stock clients sent, byte for byte, and checks that the server says as much as the stock server did, in the same order:
// status lines with their text, and replies. What the replies say is the business of the services.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), nil)
	for _, name := range []string{
		"call-ping", "call-access-denied", "call-malformed", "call-unknown-service", "call-unknown-method", "call-many-on-one-connection", "local-upgrade-refused",
		"connect-no-method-powers", "host-get-capacity", "host-get-root-cookie-path", "host-list-volume-directories", "vm-info", "vm-list", "vm-infos",
		"vm-list-filter-tags", "json-basic", "json-errors", "json-after-undecodable", "json-carriage-return",
		"json-512-byte-request", "json-method-and-request-in-one-write", "json-multi-line-request", "json-ping-crlf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := readRecording(t, name)
			var powers []string
			if r.identity == "admin" {
				powers = []string{"*.*"}
			}
			c := s.dial(r.path, r.identity, powers...)
			for _, turn := range r.turns {
				if !turn.client {
					hear(t, c, turn.parts)
				} else if _, err := c.Write(turn.data); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// hear reads what the stock server said at one go.
func hear(t *testing.T, c *srpctest.Client, parts []recordedPart) {
	t.Helper()
	for _, p := range parts {
		switch p.Kind {
		case "status":
			err := c.Status(false)
			if refused, ok := errors.AsType[*srpctest.Refused](err); ok && refused.Text == p.Text || err == nil && p.Text == "" {
				continue
			}
			t.Fatalf("status line %v, stock %q", err, p.Text)
		case "message":
			if err := hearReply(c.In, p.What); err != nil {
				t.Fatalf("%s: %v", p.Type, err)
			}
		}
	}
}

func hearReply(in *bufio.Reader, how string) error {
	if how == "json" {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		return json.Unmarshal(line, new(map[string]any))
	}
	return gob.NewDecoder(in).DecodeValue(reflect.Value{}) // takes it and drops it
}
