package srpcshim

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// part is what a recording says is in some of its bytes.
type part struct {
	At, Len          int
	Kind, What, Type string
	Value            any
}

// record is a line of a recording.
type record struct {
	Conn      int
	Dir       string
	Layer     string
	Off       int
	Hex       string
	Bulk      int
	EOF       bool
	Synthetic bool
	Decoded   []part
}

// message is one recorded message.
type message struct {
	part
	data []byte
}

// transcripts returns the folder with recordings of stock clients and servers: HYPERPLANE_TRANSCRIPTS, or beside the project.
func transcripts(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("HYPERPLANE_TRANSCRIPTS")
	if dir == "none" {
		t.Skip("HYPERPLANE_TRANSCRIPTS=none")
	}
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "srpc-transcripts")
	}
	if _, err := os.Stat(dir); err != nil { //nolint:gosec // whoever runs the test chooses the folder
		t.Fatalf("recordings of stock clients: %v; set HYPERPLANE_TRANSCRIPTS to their folder, or to none to do without", err)
	}
	return dir
}

// messages returns the messages of a recording that lie wholly in bytes that it holds.
func messages(t *testing.T, file string) []message {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	type stream struct {
		conn int
		dir  string
	}
	bytesOf, gaps, parts := make(map[stream][]byte), make(map[stream]int), make(map[stream][]part)
	for _, line := range bytes.Split(bytes.TrimSpace(raw), []byte("\n"))[1:] {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if r.Layer != "" || r.EOF {
			continue
		}
		data, err := hex.DecodeString(r.Hex)
		if err != nil {
			t.Fatal(err)
		}
		s := stream{r.Conn, r.Dir}
		if r.Bulk > 0 {
			data = make([]byte, r.Bulk)
			gaps[s] = max(gaps[s], r.Off+r.Bulk)
		}
		if len(bytesOf[s]) != r.Off {
			t.Fatalf("%s: a gap before %d", file, r.Off)
		}
		bytesOf[s] = append(bytesOf[s], data...)
		parts[s] = append(parts[s], r.Decoded...)
	}
	var all []message
	for s, list := range parts {
		for _, p := range list {
			if p.Kind == "message" && p.At >= gaps[s] && (p.What == "gob" || p.What == "json") {
				all = append(all, message{p, bytesOf[s][p.At : p.At+p.Len]})
			}
		}
	}
	return all
}

// TestRecordedMessages decodes what stock clients and servers sent in request/reply calls, compares it field by field with what the
// recorder understood, and sends it through the proto messages and back.
func TestRecordedMessages(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(transcripts(t), "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	codecs := make(map[string]wire.Codec)
	for _, m := range srpc.Methods() {
		for _, c := range []wire.Codec{m.Request, m.Reply} {
			codecs[reflect.TypeOf(c.New()).Elem().Name()] = c
		}
	}
	seen := make(map[string]int)
	for _, file := range files {
		for _, m := range messages(t, file) {
			if c, ok := codecs[m.Type]; ok {
				seen[m.Type]++
				checkRecorded(t, filepath.Base(file), m, c)
			}
		}
	}
	for name := range codecs {
		if seen[name] == 0 && !strings.HasPrefix(name, "GetVmLastPatchLog") {
			t.Logf("%s was not recorded", name)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d kinds of messages were seen", len(seen))
	}
}

func checkRecorded(t *testing.T, file string, m message, c wire.Codec) {
	t.Helper()
	var how codec = gobCodec{}
	if m.What == "json" {
		how = jsonCodec{}
	}
	taken, err := how.read(bufio.NewReader(bytes.NewReader(m.data)), 1<<20)
	if err != nil || len(bytes.TrimSpace(m.data[len(taken):])) > 0 && m.What == "json" || len(taken) < len(m.data) && m.What == "gob" {
		t.Errorf("%s: %s at %d: took %d of %d bytes: %v", file, m.Type, m.At, len(taken), m.Len, err)
		return
	}
	got := c.New()
	if err := how.decode(taken, got); err != nil {
		t.Errorf("%s: %s at %d: %v", file, m.Type, m.At, err)
		return
	}
	if diff := cmp.Diff(substance(m.Value), plainOf(t, got)); diff != "" {
		t.Errorf("%s: %s at %d (-recorded +ours):\n%s", file, m.Type, m.At, diff)
	}
	message, err := c.Proto(got)
	if err != nil {
		t.Errorf("%s: %s at %d: %v", file, m.Type, m.At, err)
		return
	}
	again, err := c.Wire(message)
	if err != nil {
		t.Errorf("%s: %s at %d, back: %v", file, m.Type, m.At, err)
		return
	}
	if failed, ok := got.(wire.ErrorReply); ok {
		again.(wire.ErrorReply).SetError(failed.ErrorText())
	}
	if diff := cmp.Diff(plainOf(t, got), plainOf(t, again)); diff != "" {
		t.Errorf("%s: %s at %d, through the proto message:\n%s", file, m.Type, m.At, diff)
	}
	checkIndependently(t, file, m, again)
}

// checkIndependently decodes our encoding of a reply with types written from the protocol's description.
func checkIndependently(t *testing.T, file string, m message, ours any) {
	t.Helper()
	independent := map[string]func() any{
		"GetVmInfoResponse":   func() any { return new(srpctest.GetVmInfoReply) },
		"ListVMsResponse":     func() any { return new(srpctest.ListVMsReply) },
		"GetCapacityResponse": func() any { return new(srpctest.Capacity) },
		"StopVmResponse":      func() any { return new(srpctest.ErrorReply) },
	}[m.Type]
	if independent == nil || m.What != "gob" {
		return
	}
	var encoded bytes.Buffer
	if err := (gobCodec{}).encode(&encoded, ours); err != nil {
		t.Fatal(err)
	}
	theirs, recorded := independent(), independent()
	if err := gob.NewDecoder(&encoded).Decode(theirs); err != nil {
		t.Errorf("%s: %s at %d: %v", file, m.Type, m.At, err)
	}
	if err := gob.NewDecoder(bytes.NewReader(m.data)).Decode(recorded); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recorded, theirs); diff != "" {
		t.Errorf("%s: %s at %d, read independently (-stock +ours):\n%s", file, m.Type, m.At, diff)
	}
}

// plainOf returns what a message says in JSON.
func plainOf(t *testing.T, m any) any {
	t.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return substance(v)
}

// substance leaves out what says nothing: stock messages leave out some zero values and state others. The texts of zero enum values count as
// such; State's does not, it is always stated.
func substance(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := make(map[string]any)
		for key, field := range v {
			if s := substance(field); s != nil && !zeroText(key, s) {
				kept[key] = s
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	case []any:
		if len(v) == 0 {
			return nil
		}
		kept := make([]any, len(v))
		for i := range v {
			kept[i] = substance(v[i])
		}
		return kept
	case string:
		if v == "" || v == "0001-01-01T00:00:00Z" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}

func zeroText(key string, v any) bool {
	return v == map[string]string{
		"ArchitectureType": "auto", "ConsoleType": "none", "FirmwareType": "default", "MachineType": "auto", "WatchdogAction": "none",
		"WatchdogModel": "none", "Format": "raw", "Interface": "virtio", "Type": "persistent", "State": "starting",
	}[key]
}
