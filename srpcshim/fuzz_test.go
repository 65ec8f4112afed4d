package srpcshim

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/gobtest"
)

func FuzzConnect(f *testing.F) {
	for _, seed := range []string{
		"CONNECT /_go_TLS_SRPC_/ HTTP/1.0\n\n", "CONNECT /_SRPC_/TLS/JSON?doNotUseMethodPowers=true HTTP/1.0\r\nA: b\r\n\r\nrest",
		"CONNECT /_goSRPC_/ HTTP/1.0\n\n", "GET / HTTP/1.1\r\n\r\n", "CONNECT  HTTP/1.0\n\n", "CONNECT /%zz HTTP/1.0\n\n", strings.Repeat("x", 5000), "\n\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := readConnect(bufio.NewReaderSize(bytes.NewReader(data), lineSize))
		r, refused := errors.AsType[*refusal](err)
		switch {
		case err == nil && e.encoding == "":
			t.Error("an endpoint without a codec")
		case refused && (r.status < 400 || r.status > 405 || strings.Count(r.answer(), "\r\n\r\n") != 1):
			t.Errorf("answer %q", r.answer())
		case err != nil && !refused && !errors.Is(err, io.EOF):
			t.Errorf("neither an endpoint, nor a refusal, nor the end: %v", err)
		}
	})
}

func FuzzMethodLine(f *testing.F) {
	for _, seed := range []string{"Hypervisor.GetVmInfo", "nodots", "a.b.c", ".", ".LocalUpgradeToUnix", "Hypervisor.", "Hypervisor.\x00\r"} {
		f.Add(seed)
	}
	mux := &Mux{services: map[string]map[string]*method{"Hypervisor": {"GetVmInfo": {}}}}
	f.Fuzz(func(t *testing.T, line string) {
		found, refusal := mux.find(line)
		if (found == nil) == (refusal == "") || (found != nil) != (line == "Hypervisor.GetVmInfo") {
			t.Errorf("%q: %v, %q", line, found, refusal)
		}
	})
}

// oneByte keeps the reader from having more than it was asked for.
func oneByte(data []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(data)) }

func fuzzCodec(f *testing.F, c codec) {
	f.Helper()
	const limit = 4096
	methods := srpc.Methods()
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		in := oneByte(data)
		message, err := c.read(in, limit)
		if err != nil {
			return
		}
		if len(message) > limit || !bytes.HasPrefix(data, message) {
			t.Fatalf("took %d bytes that are not the beginning", len(message))
		}
		c.skipEnd(in)
		m := methods[int(which)%len(methods)]
		request := m.Request.New()
		if decode(c, message, request) != nil {
			return
		}
		converted, err := m.Request.Proto(request)
		if err != nil {
			return
		}
		// What was understood can be said again, and is understood as the same.
		var out bytes.Buffer
		if err := c.encode(&out, request); err != nil {
			t.Fatalf("%s: %+v can not be encoded: %v", m.Name, request, err)
		}
		again := m.Request.New()
		if err := c.decode(out.Bytes(), again); err != nil {
			t.Fatalf("%s: own message can not be decoded: %v", m.Name, err)
		}
		if _, err := m.Request.Proto(again); err != nil {
			t.Fatalf("%s: %v has become %v", m.Name, converted, err)
		}
	})
}

func seedRequests(f *testing.F, c codec) {
	f.Helper()
	for i, m := range srpc.Methods() {
		var out bytes.Buffer
		if err := c.encode(&out, m.Request.New()); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), append(out.Bytes(), "Hypervisor.GetVmInfo\n"...))
	}
	f.Add(uint8(0), []byte(nil))
	f.Add(uint8(0), []byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Add(uint8(0), []byte{0x80, 0x00})
	f.Add(uint8(0), []byte(`{"a":"\`))
	f.Add(uint8(0), []byte(`[1]`))
	f.Add(uint8(0), []byte(strings.Repeat("{", 5000)))
}

func FuzzGob(f *testing.F) {
	for _, b := range gobtest.Bombs(300) {
		f.Add(uint8(0), b.Stream)
	}
	seedRequests(f, newCodecs()[gobEncoding])
	fuzzCodec(f, newCodecs()[gobEncoding])
}

func FuzzJSON(f *testing.F) {
	seedRequests(f, newCodecs()[jsonEncoding])
	fuzzCodec(f, newCodecs()[jsonEncoding])
}

// TestGobTakesExactlyOneMessage: raw bytes may follow a message, and so does the next method line.
func TestGobTakesExactlyOneMessage(t *testing.T) {
	t.Parallel()
	type inner struct{ M map[string][]uint64 }
	for _, message := range []any{
		struct{}{},
		5, "text",
		struct{ IP net.IP }{net.IP{1, 2, 3, 4}},
		struct{ T time.Time }{time.Unix(5, 6)},
		struct{ L []inner }{[]inner{{map[string][]uint64{"a": {1, 1 << 60}}}, {}}},
		struct{ B []byte }{make([]byte, 70000)},
	} {
		var stream bytes.Buffer
		if err := gob.NewEncoder(&stream).Encode(message); err != nil {
			t.Fatal(err)
		}
		want := stream.Len()
		stream.WriteString("\x00rest")
		got, err := newCodecs()[gobEncoding].read(bufio.NewReader(&stream), 1<<20)
		if err != nil || len(got) != want {
			t.Errorf("%T: took %d of %d bytes: %v", message, len(got), want, err)
		}
	}
}
