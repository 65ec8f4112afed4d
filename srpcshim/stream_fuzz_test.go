package srpcshim

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/hyperplane-project/hyperplane/srpcshim/dialogue"
)

// script is a connection whose peer says what it says and hears everything.
type script struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// newRequest returns an empty message of the kind that a method's handler receives.
func newRequest(t *testing.T, full string) proto.Message {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", ".")))
	if err != nil {
		t.Fatal(err)
	}
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.(protoreflect.MethodDescriptor).Input().FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// FuzzDialogues lets clients say anything to the stream methods: the handler receives until there is no more, then fails.
func FuzzDialogues(f *testing.F) {
	streams := dialogue.Streams(dialogue.Hooks{})
	for i := range streams {
		for _, seed := range []string{`{"IpAddress":"10.0.0.1","Size":5,"ImageDataSize":5,"UserDataSize":3}` + "\nhello", `{}`, "", "{}\n{\"BlockOrder\":9,\"NumBlocks\":1}\n"} {
			f.Add(uint8(i), true, []byte(seed))
		}
		var out bytes.Buffer
		if err := newCodecs()[gobEncoding].encode(&out, dialogue.ReplaceVmUserDataRequest{IpAddress: net.IP{10, 0, 0, 1}, Size: 5}); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), false, append(out.Bytes(), "hello\x00"...))
	}
	f.Fuzz(func(t *testing.T, which uint8, asJSON bool, data []byte) {
		conn := &script{in: bytes.NewReader(data)}
		s := &session{
			mux: &Mux{opts: Options{Log: nil, Limits: Limits{}.withDefaults()}}, conn: conn, in: bufio.NewReader(conn), life: lifetime{conn: conn}, codec: newCodecs()[gobEncoding],
		}
		if asJSON {
			s.codec = newCodecs()[jsonEncoding]
		}
		talk := s.talk(t.Context(), 4096)
		defer talk.cancel()
		stream := streams[int(which)%len(streams)]
		d := stream.Open(talk)
		var err error
		for n := 0; err == nil && n < 2*len(data)+4; n++ {
			m := newRequest(t, stream.FullMethod)
			if err = d.Recv(m); err == nil && proto.Size(m) > 1<<20 {
				t.Fatalf("%d bytes became %d", len(data), proto.Size(m))
			}
		}
		if err == nil {
			t.Fatal("receives for ever")
		}
		_ = d.End(errors.New("refused")) // what it says is the client's business
	})
}
