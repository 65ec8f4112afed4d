package srpctest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Recording is what stock clients and a stock server said to each other, in the format of the recordings' own README.
type Recording struct {
	Identity    string
	Connections []struct{ Path string }
	Lines       []Line
}

// Line is what one side said before the other spoke.
type Line struct {
	Conn       int
	Dir        string
	Layer, Hex string
	Off        int
	// Bulk is the length of bytes that the recording does not hold; Data has zeros for them.
	Bulk    int
	EOF     bool
	Decoded []Part
	Data    []byte
}

// FromClient says who spoke.
func (l *Line) FromClient() bool { return l.Dir == "c>s" }

// Part is what the recorder saw in some of the bytes.
type Part struct {
	At, Len                int
	Kind, What, Type, Text string
	Value                  any
}

// Recordings returns the folder with the recordings: HYPERPLANE_TRANSCRIPTS, or beside the module, whose root is given.
func Recordings(tb testing.TB, root string) string {
	tb.Helper()
	dir := os.Getenv("HYPERPLANE_TRANSCRIPTS")
	if dir == "none" {
		tb.Skip("HYPERPLANE_TRANSCRIPTS=none")
	}
	if dir == "" {
		dir = filepath.Join(root, "..", "shared", "srpc-transcripts")
	}
	if _, err := os.Stat(dir); err != nil { //nolint:gosec // whoever runs the test chooses the folder
		tb.Fatalf("recordings of stock clients: %v; set HYPERPLANE_TRANSCRIPTS to their folder, or to none to do without", err)
	}
	return dir
}

// ReadRecording reads a recording, without what was said before SRPC began.
func ReadRecording(tb testing.TB, file string) *Recording {
	tb.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	r := new(Recording)
	if err := json.Unmarshal(lines[0], r); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	for _, line := range lines[1:] {
		var l Line
		if err := json.Unmarshal(line, &l); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		if l.Layer != "" || l.EOF {
			continue
		}
		if l.Data, err = hex.DecodeString(l.Hex); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		if l.Bulk > 0 {
			l.Data = make([]byte, l.Bulk)
		}
		r.Lines = append(r.Lines, l)
	}
	return r
}
