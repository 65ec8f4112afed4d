package vmvolume_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// client is the client's end of GetVmVolume. It applies what it gets to what it has.
type client struct {
	grpc.ServerStream
	ctx      context.Context
	requests []*hypervisorv1.GetVmVolumeRequest
	order    uint32
	content  []byte
	last     uint64
	at       int
	got      int // bytes
	longest  int // piece
	final    bool
}

func (c *client) Context() context.Context { return c.ctx }

func (c *client) Recv() (*hypervisorv1.GetVmVolumeRequest, error) {
	if len(c.requests) == 0 {
		return nil, io.EOF
	}
	m := c.requests[0]
	c.requests = c.requests[1:]
	return m, nil
}

func (c *client) Send(m *hypervisorv1.GetVmVolumeResponse) error {
	if c.final {
		return errors.New("an answer after the last")
	}
	c.final = m.GetFinal()
	if c.got == 0 || m.GetBlockIndex() != c.last {
		c.last, c.at = m.GetBlockIndex(), int(m.GetBlockIndex())<<c.order
	}
	if grow := c.at + len(m.GetData()) - len(c.content); grow > 0 {
		c.content = append(c.content, make([]byte, grow)...)
	}
	c.at += copy(c.content[c.at:], m.GetData())
	c.got += len(m.GetData())
	c.longest = max(c.longest, len(m.GetData()))
	return nil
}

// fetch brings what a client has to what a volume holds.
func (m *machine) fetch(i, order uint32, has []byte) (*client, error) {
	m.t.Helper()
	c := &client{ctx: m.t.Context(), order: order, content: bytes.Clone(has)}
	first := &hypervisorv1.GetVmVolumeRequest{Vm: "u", VolumeIndex: i, BlockOrder: order, GetExtraFiles: true}
	c.requests = append(c.requests, first)
	for off := 0; order > 0 && off < len(has); off += 1 << order {
		sum := sha512.Sum512(has[off:min(len(has), off+1<<order)])
		c.requests = append(c.requests, &hypervisorv1.GetVmVolumeRequest{BlockDigests: [][]byte{sum[:]}})
	}
	c.requests = append(c.requests, &hypervisorv1.GetVmVolumeRequest{DigestsComplete: true})
	err := m.GetVmVolume(c)
	if err == nil && (!c.final || c.longest > 256<<10) {
		m.t.Errorf("final %v, longest piece %d", c.final, c.longest)
	}
	return c, err
}

func TestReadVolume(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	// Data, a hole, and data that does not fill a block.
	const size = 3<<20 + 512
	content := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(content[:1<<20])
	_, _ = random.Read(content[3<<20:])
	f, err := os.Create(m.record.GetVolumeLocations()[0].GetFilename())
	if err == nil {
		_, err = f.Write(content[:1<<20])
	}
	if err == nil {
		_, err = f.WriteAt(content[3<<20:], 3<<20)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	differs := bytes.Clone(content)
	differs[5000]++
	differs[2<<20]++
	for name, test := range map[string]struct {
		order uint32
		has   []byte
		got   int
	}{
		"whole volume":           {0, nil, size},
		"nothing there":          {16, nil, size},
		"all there":              {16, content, 0},
		"two blocks differ":      {16, differs, 2 << 16},
		"beginning there":        {12, content[:1<<20], size - 1<<20},
		"blocks above a piece":   {20, differs, 2 << 20},
		"one block larger":       {32, differs, size},
		"more there than should": {16, append(bytes.Clone(content), make([]byte, 1<<20)...), 512},
	} {
		c, err := m.fetch(0, test.order, test.has)
		if err != nil || c.got != test.got || !bytes.Equal(c.content[:size], content) {
			t.Errorf("%s: got %d bytes, want %d: %v", name, c.got, test.got, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for name, first := range map[string]*hypervisorv1.GetVmVolumeRequest{
		"no such volume":  {Vm: "u", VolumeIndex: 2},
		"small blocks":    {Vm: "u", BlockOrder: 8},
		"large blocks":    {Vm: "u", BlockOrder: 33},
		"no block size":   {Vm: "u", BlockDigests: [][]byte{make([]byte, 64)}},
		"a short digest":  {Vm: "u", BlockOrder: 9, BlockDigests: [][]byte{make([]byte, 63)}},
		"an empty digest": {Vm: "u", BlockOrder: 9, BlockDigests: [][]byte{nil}},
	} {
		c := &client{ctx: t.Context(), requests: []*hypervisorv1.GetVmVolumeRequest{first}}
		if err := m.GetVmVolume(c); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.GetVmVolume(&client{ctx: t.Context()}); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("no request: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &client{ctx: ctx, requests: []*hypervisorv1.GetVmVolumeRequest{{Vm: "u"}}}
	if err := m.GetVmVolume(c); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
