package transfer

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

const (
	// tunnelPatience is how long a connection waits for a tunnel.
	tunnelPatience = 30 * time.Second
	// pieceBytes is how much of a connection a message carries at most.
	pieceBytes = 256 << 10
)

type tunnelStream = grpc.BidiStreamingServer[hypervisorv1.TunnelRequest, hypervisorv1.TunnelResponse]

// sessions are the VMs that are being sent. The zero value is ready to use.
type sessions struct {
	mu   sync.Mutex
	byID map[string]*session
}

// session is one SendVm with the tunnels that its destination keeps waiting.
type session struct {
	id   []byte
	uuid string
	done chan struct{}
	// spare hands over a tunnel to the connection that is to use it.
	spare chan *tunnel
}

func (s *sessions) open(uuid string) *session {
	v := &session{id: newSessionID(), uuid: uuid, done: make(chan struct{}), spare: make(chan *tunnel)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[string]*session)
	}
	s.byID[string(v.id)] = v
	return v
}

func (s *sessions) close(v *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, string(v.id))
	close(v.done)
}

func (s *sessions) get(id []byte) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[string(id)]
}

// tunnel is a call that waits for a connection.
type tunnel struct {
	stream tunnelStream
	done   chan struct{} // closed when the connection has ended
}

// Tunnel implements PeerService.
func (s *Service) Tunnel(stream tunnelStream) error {
	first, err := stream.Recv()
	if err != nil {
		return endMeans(err, "vm: is missing; name the VM in the first message")
	}
	info, err := s.Operations.Info(first.GetVm())
	if err != nil {
		return err
	}
	v := s.sessions.get(first.GetSession())
	if v == nil || v.uuid != info.GetUuid() {
		return fault.New(fault.NotFound, "session: vm %s is not being sent, or in another session", first.GetVm())
	}
	t := &tunnel{stream: stream, done: make(chan struct{})}
	select {
	case v.spare <- t:
		<-t.done
		return nil
	case <-v.done:
		return nil
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// connect carries a connection of the emulator through a spare tunnel until it has ended.
func (v *session) connect(ctx context.Context, s hypervisor.Stream, conn io.ReadWriteCloser) {
	patience, cancel := context.WithTimeout(ctx, tunnelPatience)
	defer cancel()
	select {
	case t := <-v.spare:
		defer close(t.done)
		if t.stream.Send(&hypervisorv1.TunnelResponse{Stream: toStream(s)}) != nil {
			return
		}
		pipe(ctx, conn, func(data []byte, end bool) error {
			return t.stream.Send(&hypervisorv1.TunnelResponse{Data: data, End: end})
		}, func() ([]byte, bool, error) {
			m, err := t.stream.Recv()
			return m.GetData(), m.GetEnd(), err
		})
	case <-patience.Done():
	}
}

func toStream(s hypervisor.Stream) hypervisorv1.TunnelStream {
	if s == hypervisor.StorageStream {
		return hypervisorv1.TunnelStream_TUNNEL_STREAM_STORAGE
	}
	return hypervisorv1.TunnelStream_TUNNEL_STREAM_MEMORY
}

// pipe moves bytes both ways until both ends have ended, one is broken or ctx ends. It closes the connection. The goroutine that receives ends at the
// latest with the call that it receives from.
func pipe(ctx context.Context, conn io.ReadWriteCloser, send func(data []byte, end bool) error, receive func() (data []byte, end bool, err error)) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close() //nolint:errcheck // what it carried has arrived, or its user finds that it has not
	received := make(chan error, 1)
	go func() { received <- fromTunnel(conn, receive) }()
	sent := make(chan error, 1)
	go func() { sent <- intoTunnel(conn, send) }()
	for range 2 {
		var err error
		select {
		case err = <-received:
		case err = <-sent:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return
		}
	}
}

func intoTunnel(conn io.Reader, send func([]byte, bool) error) error {
	for buf := make([]byte, pieceBytes); ; {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := send(buf[:n], false); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return send(nil, true)
		}
		if err != nil {
			return err
		}
	}
}

func fromTunnel(conn io.WriteCloser, receive func() ([]byte, bool, error)) error {
	for {
		data, end, err := receive()
		if err != nil {
			return err
		}
		if _, err := conn.Write(data); err != nil {
			return err
		}
		if !end {
			continue
		}
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // the other end may have closed all of it
			return nil
		}
		return conn.Close()
	}
}
