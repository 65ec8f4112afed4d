package srpcshim

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/dialogue"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// streamMessages are the messages of stream methods by the names that the recorder gave them.
func streamMessages() map[string]func() any {
	return map[string]func() any{
		"CreateVmRequest":                 func() any { return new(srpc.CreateVmSpec) },
		"CreateVmResponse":                func() any { return new(dialogue.CreateVmResponse) },
		"GetVmUserDataRequest":            func() any { return new(dialogue.GetVmUserDataRequest) },
		"GetVmUserDataResponse":           func() any { return new(dialogue.GetVmUserDataResponse) },
		"ReplaceVmUserDataRequest":        func() any { return new(dialogue.ReplaceVmUserDataRequest) },
		"ReplaceVmUserDataResponse":       func() any { return new(dialogue.ErrorResponse) },
		"GetVmLastPatchLogRequest":        func() any { return new(dialogue.VMRequest) },
		"GetVmLastPatchLogResponse":       func() any { return new(dialogue.GetVmLastPatchLogResponse) },
		"GetVmVirtualiserLogFileRequest":  func() any { return new(dialogue.GetVmVirtualiserLogFileRequest) },
		"GetVmVirtualiserLogFileResponse": func() any { return new(dialogue.GetVmVirtualiserLogFileResponse) },
		"GetUpdatesRequest":               func() any { return new(dialogue.GetUpdatesRequest) },
		"Update":                          func() any { return new(dialogue.Update) },
		"ConnectToVmConsoleRequest":       func() any { return new(dialogue.VMRequest) },
		"ConnectToVmConsoleResponse":      func() any { return new(dialogue.ErrorResponse) },
		"ConnectToVmManagerRequest":       func() any { return new(dialogue.VMRequest) },
		"ConnectToVmManagerResponse":      func() any { return new(dialogue.ErrorResponse) },
		"ConnectToVmSerialPortRequest":    func() any { return new(dialogue.ConnectToVmSerialPortRequest) },
		"ConnectToVmSerialPortResponse":   func() any { return new(dialogue.ErrorResponse) },
		"GetVmVolumeRequest":              func() any { return new(dialogue.GetVmVolumeRequest) },
		"GetVmVolumeResponse":             func() any { return new(dialogue.GetVmVolumeResponse) },
		"GetBlocksRequest":                func() any { return new(dialogue.GetBlocksRequest) },
		"Block":                           func() any { return new(dialogue.Block) },
		"MigrateVmRequest":                func() any { return new(dialogue.MigrateVmRequest) },
		"MigrateVmResponse":               func() any { return new(dialogue.MigrateVmResponse) },
		"MigrateVmResponseResponse":       func() any { return new(dialogue.MigrateVmResponseResponse) },
		"CopyVmRequest":                   func() any { return new(dialogue.CopyVmRequest) },
		"CopyVmResponse":                  func() any { return new(dialogue.CopyVmResponse) },
		"ReplaceVmImageRequest":           func() any { return new(dialogue.ReplaceVmImageRequest) },
		"ReplaceVmImageResponse":          func() any { return new(dialogue.ImageResponse) },
		"DebugVmImageRequest":             func() any { return new(dialogue.DebugVmImageRequest) },
		"DebugVmImageResponse":            func() any { return new(dialogue.ImageResponse) },
		"PatchVmImageRequest":             func() any { return new(dialogue.PatchVmImageRequest) },
		"PatchVmImageResponse":            func() any { return new(dialogue.PatchVmImageResponse) },
		"TraceVmMetadataRequest":          func() any { return new(dialogue.VMRequest) },
		"TraceVmMetadataResponse":         func() any { return new(dialogue.ErrorResponse) },
		"ScanVmRootRequest":               func() any { return new(dialogue.ScanVmRootRequest) },
		"ScanVmRootResponse":              func() any { return new(dialogue.ScanVmRootResponse) },
		"WatchDhcpRequest":                func() any { return new(dialogue.WatchDhcpRequest) },
		"WatchDhcpResponse":               func() any { return new(dialogue.WatchDhcpResponse) },
	}
}

// TestRecordedStreamMessages decodes what stock clients and servers sent in stream methods, in the order of each call, because type
// definitions travel once, and compares it field by field with what the recorder understood.
func TestRecordedStreamMessages(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(srpctest.Recordings(t, ".."), "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	dialogue.Streams(dialogue.Hooks{}) // makes the kinds of inodes known
	seen := make(map[string]int)
	for _, file := range files {
		checkStreams(t, file, seen)
	}
	for name := range streamMessages() {
		if seen[name] == 0 {
			t.Errorf("%s is in no recording", name)
		}
	}
	t.Logf("%d kinds of messages: %v", len(seen), seen)
}

type direction struct {
	conn int
	dir  string
}

// side is one direction of a connection: its bytes so far, and the decoder of the call under way.
type side struct {
	bytes   []byte
	pending bytes.Buffer
	decode  func(any) error
}

func checkStreams(t *testing.T, file string, seen map[string]int) {
	t.Helper()
	sides := make(map[direction]*side)
	for _, l := range srpctest.ReadRecording(t, file).Lines {
		key := direction{l.Conn, l.Dir}
		if sides[key] == nil {
			sides[key] = new(side)
		}
		s := sides[key]
		s.bytes = append(s.bytes, l.Data...)
		for _, p := range l.Decoded {
			switch p.Kind {
			case "method", "status": // a new call, or the answer to one
				s.decode = nil
			case "message":
				s.check(t, filepath.Base(file), p, seen)
			}
		}
	}
}

func (s *side) check(t *testing.T, file string, p srpctest.Part, seen map[string]int) {
	t.Helper()
	var how codec
	switch p.What {
	case "gob":
		how = newCodecs()[gobEncoding]
	case "json":
		how = newCodecs()[jsonEncoding]
	default:
		return // not decodable
	}
	if s.decode == nil {
		s.pending.Reset()
		s.decode = how.decoder(&s.pending)
	}
	fresh, ok := streamMessages()[p.Type]
	if !ok {
		return
	}
	seen[p.Type]++
	s.pending.Reset()
	s.pending.Write(s.bytes[p.At : p.At+p.Len])
	got := fresh()
	if err := s.decode(got); err != nil {
		t.Errorf("%s: %s at %d: %v", file, p.Type, p.At, err)
		return
	}
	if diff := cmp.Diff(substance(p.Value), plainOf(t, got)); diff != "" {
		t.Errorf("%s: %s at %d (-recorded +ours):\n%s", file, p.Type, p.At, diff)
	}
}
