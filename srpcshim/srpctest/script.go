package srpctest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

// Script is a recording as a sequence of steps, in the order in which they were over.
type Script struct {
	Note  string
	Conns []ScriptConn
	Steps []Step
}

// ScriptConn is a connection of a recording.
type ScriptConn struct {
	Path, Identity, TLS, Server, Note string

	Loopback bool `json:"client_on_loopback"`
}

// Step is one part of what one side said, the request for the connection and its answer, or the end of one side.
type Step struct {
	Conn   int // counted from 1
	Client bool
	// Kind is tcp, eof, or the kind of the part.
	Kind, What, Type, Text string
	// SHA256 is of a payload, in hexadecimal. Lost says that the payload cannot be made again; Data has zeros for it.
	SHA256 string
	Lost   bool
	// Synthetic says that the recorder said it, in neither side's name.
	Synthetic bool
	Data      []byte
	at        float64
}

type scriptLine struct {
	Conn           int
	Dir            string
	At             float64 `json:"t_ms"`
	Layer, Hex     string
	Off, Bulk      int
	SHA256         string
	EOF, Synthetic bool
	Text           string
	Decoded        []struct {
		At, Len                        int
		Kind, What, Type, Text, SHA256 string
		Ms                             float64 `json:"t_ms"`
	}
}

// way is one direction of a connection.
type way struct {
	conn int
	dir  string
}

// Payloads are what recordings hold only the digests of, by their SHA-256 in hexadecimal.
func Payloads(all ...[]byte) map[string][]byte {
	known := make(map[string][]byte)
	for _, b := range all {
		sum := sha256.Sum256(b)
		known[hex.EncodeToString(sum[:])] = b
	}
	return known
}

// ReadScript reads a recording with the payloads that can be made again.
func ReadScript(tb testing.TB, file string, known map[string][]byte) *Script {
	tb.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(raw), []byte("\n"))
	var header struct {
		Note        string
		Connections []ScriptConn
	}
	if err := json.Unmarshal(lines[0], &header); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
	s := &Script{Note: header.Note, Conns: header.Connections}
	streams := make(map[way][]byte)
	for _, line := range lines[1:] {
		var l scriptLine
		if err := json.Unmarshal(line, &l); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		if err := s.add(&l, streams, known); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int {
		switch {
		case a.at < b.at:
			return -1
		case a.at > b.at:
			return 1
		}
		return 0
	})
	return s
}

// add adds the steps of a line. streams has the bytes so far.
func (s *Script) add(l *scriptLine, streams map[way][]byte, known map[string][]byte) error {
	data, err := hex.DecodeString(l.Hex)
	if err != nil {
		return err
	}
	step := Step{Conn: l.Conn, Client: l.Dir == "c>s", Synthetic: l.Synthetic, at: l.At, Text: l.Text, Data: data}
	if l.EOF || l.Layer != "" {
		step.Kind = "eof"
		if !l.EOF {
			step.Kind = l.Layer
		}
		s.Steps = append(s.Steps, step)
		return nil
	}
	if l.Bulk > 0 {
		if data = known[l.SHA256]; data == nil {
			data = make([]byte, l.Bulk)
		}
	}
	w := way{l.Conn, l.Dir}
	streams[w] = append(streams[w], data...)
	for _, p := range l.Decoded {
		part := step
		part.Kind, part.What, part.Type, part.Text, part.SHA256, part.at = p.Kind, p.What, p.Type, p.Text, p.SHA256, p.Ms
		part.Data = streams[w][p.At : p.At+p.Len]
		if p.SHA256 != "" {
			if whole := known[p.SHA256]; whole != nil {
				part.Data = whole // whichever lines it came in
			} else {
				sum := sha256.Sum256(part.Data)
				part.Lost = hex.EncodeToString(sum[:]) != p.SHA256
			}
		}
		s.Steps = append(s.Steps, part)
	}
	return nil
}
