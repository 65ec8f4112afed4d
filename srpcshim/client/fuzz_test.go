package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
)

// mouth is a connection to a peer that says what it says and hears nothing.
type mouth struct {
	net.Conn
	io.Reader
}

func (m mouth) Read(p []byte) (int, error) { return m.Reader.Read(p) }

func (mouth) Write(p []byte) (int, error) { return len(p), nil }

// peerSaying is a Conn with one link, whose peer says this.
func peerSaying(said []byte) (*Conn, func()) {
	here, there := net.Pipe()
	c := &Conn{address: "peer", idle: make(map[bool][]*link), open: make(map[*link]struct{})}
	conn := mouth{Conn: here, Reader: bytes.NewReader(said)}
	l := &link{Conn: conn, in: bufio.NewReaderSize(conn, bufferSize)}
	c.open[l] = struct{}{}
	c.release(l)
	return c, func() {
		_ = here.Close()
		_ = there.Close()
	}
}

func seed(f *testing.F, parts ...any) []byte {
	f.Helper()
	var out bytes.Buffer
	encode := gob.NewEncoder(&out)
	for _, p := range parts {
		if raw, ok := p.([]byte); ok {
			out.Write(raw)
		} else if err := encode.Encode(p); err != nil {
			f.Fatal(err)
		}
	}
	return out.Bytes()
}

// FuzzReply: whatever a peer says, a call ends with an answer or an error.
func FuzzReply(f *testing.F) {
	vm := srpc.VmInfo{Hostname: "web", Tags: map[string]string{"a": "b"}, Volumes: []srpc.Volume{{Size: 5}}}
	f.Add(seed(f, []byte("\n\n"), &srpc.GetVmInfoResponse{VmInfo: vm}))
	f.Add(seed(f, []byte("\n\n"), &srpc.GetVmInfoResponse{Error: "no VM with IP address: 10.0.0.1 found"}))
	f.Add([]byte("access to method denied\n"))
	f.Add([]byte("\nmutations blocked\n"))
	f.Add([]byte("\n\n\x07\xff\x82\x00\x04\xff\xff\xff\xf8\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, said []byte) {
		c, done := peerSaying(said)
		defer done()
		for _, m := range srpc.Methods() {
			if m.Name != "GetVmInfo" {
				continue
			}
			var reply hypervisorv1.GetVmInfoResponse
			err := c.exchange(t.Context(), m, &hypervisorv1.GetVmInfoRequest{Vm: "10.0.0.1"}, &reply)
			if _, textErr := proto.Marshal(&reply); err == nil && textErr != nil {
				t.Error(textErr)
			}
		}
	})
}

// FuzzStreams: whatever a peer says, a volume and user data end, with no more than was said.
func FuzzStreams(f *testing.F) {
	f.Add(seed(f, []byte("\n"), &getVmVolumeResponse{}, &block{Index: 1, Size: 3}, []byte("abc"), &block{Index: 2, Size: 2}, []byte("de"), &block{}), true)
	f.Add(seed(f, []byte("\n"), &getVmVolumeResponse{ExtraFiles: map[string][]byte{"kernel": []byte("k")}}, &block{Index: 0, Size: 1 << 40}, []byte("abc")), true)
	f.Add(seed(f, []byte("\n"), &getVmVolumeResponse{Error: "no access to resource"}), true)
	f.Add(seed(f, []byte("\n"), &getVmUserDataResponse{Length: 3}, []byte("abc")), false)
	f.Add(seed(f, []byte("\n"), &getVmUserDataResponse{Length: 1 << 60}, []byte("abc")), false)
	f.Fuzz(func(t *testing.T, said []byte, volume bool) {
		c, done := peerSaying(said)
		defer done()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var came int
		if volume {
			came = drainVolume(ctx, t, c)
		} else {
			came = drainUserData(ctx, t, c)
		}
		if came > len(said) {
			t.Errorf("%d bytes came of %d", came, len(said))
		}
	})
}

func drainVolume(ctx context.Context, t *testing.T, c *Conn) (came int) {
	t.Helper()
	v := newVolumeStream(ctx, c)
	digests := [][]byte{make([]byte, digestSize), make([]byte, digestSize)}
	_ = v.send(&hypervisorv1.GetVmVolumeRequest{Vm: "10.0.0.1", BlockOrder: 9, BlockDigests: digests, DigestsComplete: true}) // the receiver learns it
	for {
		m := new(hypervisorv1.GetVmVolumeResponse)
		if err := v.recv(m); err != nil {
			return came
		}
		if len(m.GetData()) > pieceBytes || (m.GetBlockIndex() < 2 && len(m.GetData()) > 512) || m.GetBlockIndex() > 2 {
			t.Errorf("block %d has %d bytes", m.GetBlockIndex(), len(m.GetData()))
		}
		came += len(m.GetData())
	}
}

func drainUserData(ctx context.Context, t *testing.T, c *Conn) (came int) {
	t.Helper()
	u := &userDataStream{ctx: ctx, conn: c}
	_ = u.send(&hypervisorv1.GetVmUserDataRequest{Vm: "10.0.0.1"}) // the receiver learns it
	for {
		m := new(hypervisorv1.GetVmUserDataResponse)
		if err := u.recv(m); err != nil {
			if errors.Is(err, io.EOF) && came != int(u.length) {
				t.Errorf("%d bytes came for a length of %d", came, u.length)
			}
			return came
		}
		came += len(m.GetData())
	}
}
