package srpcshim

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// message is one recorded message.
type message struct {
	srpctest.Part
	data []byte
}

// messages returns the messages of a recording that could be decoded.
func messages(t *testing.T, file string) []message {
	t.Helper()
	type stream struct {
		conn int
		dir  string
	}
	bytesOf, parts := make(map[stream][]byte), make(map[stream][]srpctest.Part)
	for _, l := range srpctest.ReadRecording(t, file).Lines {
		s := stream{l.Conn, l.Dir}
		if len(bytesOf[s]) != l.Off {
			t.Fatalf("%s: a gap before %d", file, l.Off)
		}
		bytesOf[s] = append(bytesOf[s], l.Data...)
		parts[s] = append(parts[s], l.Decoded...)
	}
	var all []message
	for s, list := range parts {
		for _, p := range list {
			if p.Kind == "message" && (p.What == "gob" || p.What == "json") {
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
	files, err := filepath.Glob(filepath.Join(srpctest.Recordings(t, ".."), "*.jsonl"))
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
	total := 0
	for name := range codecs {
		total += seen[name]
		if seen[name] == 0 {
			t.Errorf("%s is in no recording", name)
		}
	}
	t.Logf("%d messages of %d kinds", total, len(codecs))
}

func checkRecorded(t *testing.T, file string, m message, c wire.Codec) {
	t.Helper()
	how := newCodecs()[gobEncoding]
	if m.What == "json" {
		how = newCodecs()[jsonEncoding]
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
	if err := newCodecs()[gobEncoding].encode(&encoded, ours); err != nil {
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
		"WatchdogModel": "none", "Format": "raw", "VolumeFormat": "raw", "Interface": "virtio", "Type": "persistent", "State": "starting",
	}[key]
}
