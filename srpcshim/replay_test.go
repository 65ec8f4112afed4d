package srpcshim_test

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// TestReplay sends what stock clients sent, byte for byte, and checks that the server says as much as the stock server did, in the same order:
// status lines with their text, and replies. What the replies say is the business of the services.
func TestReplay(t *testing.T) {
	t.Parallel()
	dir := srpctest.Recordings(t, "..")
	s, elsewhere := serve(t, answering(), nil), serveOn(t, "127.0.0.2", answering(), nil)
	for _, name := range []string{
		"call-ping", "call-access-denied", "call-malformed", "call-unknown-service", "call-unknown-method", "call-many-on-one-connection", "local-upgrade-refused",
		"connect-no-method-powers", "host-get-capacity", "host-get-root-cookie-path", "host-list-volume-directories", "vm-info", "vm-list", "vm-infos",
		"vm-list-filter-tags", "json-basic", "json-errors", "json-after-undecodable", "json-carriage-return",
		"json-512-byte-request", "json-method-and-request-in-one-write", "json-multi-line-request", "json-ping-crlf",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := srpctest.ReadRecording(t, filepath.Join(dir, name+".jsonl"))
			var powers []string
			if r.Identity == "admin" {
				powers = []string{"*.*"}
			}
			on := s
			if name == "local-upgrade-refused" {
				on = elsewhere
			}
			c := on.dial(r.Connections[0].Path, r.Identity, powers...)
			for _, line := range r.Lines {
				if !line.FromClient() {
					hear(t, c, line.Decoded)
				} else if _, err := c.Write(line.Data); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// hear reads what the stock server said at one go.
func hear(t *testing.T, c *srpctest.Client, parts []srpctest.Part) {
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
