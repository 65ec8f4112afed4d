package transfer

import (
	"context"
	"io"
	"sync"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// spareTunnels is how many calls wait for connections of the source.
const spareTunnels = 4

// tunnels are the destination's ends.
type tunnels struct {
	from    *source
	session []byte
	connect func(context.Context, hypervisor.Stream) (io.ReadWriteCloser, error)
	all     sync.WaitGroup
	cancel  context.CancelFunc
}

// keep opens the spare tunnels. They end with ctx or end.
func (t *tunnels) keep(ctx context.Context) {
	ctx, t.cancel = context.WithCancel(ctx)
	for range spareTunnels {
		t.spare(ctx)
	}
}

func (t *tunnels) end() {
	t.cancel()
	t.all.Wait()
}

// spare opens one tunnel, which is replaced when it is used.
func (t *tunnels) spare(ctx context.Context) {
	t.all.Go(func() {
		call, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := t.from.peers.Tunnel(call)
		if err != nil {
			return // nothing carries the source's connections, so it gives up
		}
		first := &hypervisorv1.TunnelRequest{Vm: t.from.ref(), AccessToken: t.from.token, Session: t.session}
		if stream.Send(first) != nil {
			return
		}
		m, err := stream.Recv()
		if err != nil {
			return
		}
		t.spare(ctx)
		conn, err := t.connect(call, fromStream(m.GetStream()))
		if err != nil {
			return // the source's emulator sees that the connection ends
		}
		pipe(call, conn, func(data []byte, end bool) error {
			return stream.Send(&hypervisorv1.TunnelRequest{Data: data, End: end})
		}, func() ([]byte, bool, error) {
			m, err := stream.Recv()
			return m.GetData(), m.GetEnd(), err
		})
	})
}

func fromStream(s hypervisorv1.TunnelStream) hypervisor.Stream {
	if s == hypervisorv1.TunnelStream_TUNNEL_STREAM_STORAGE {
		return hypervisor.StorageStream
	}
	return hypervisor.MemoryStream
}
