// Package monitor is the MonitoringService: what happens on the host, told as it happens.
package monitor

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/prewire"
	"github.com/hyperplane-project/hyperplane/server/feed"
)

// heartbeat is how long a stream is silent at most.
const heartbeat = 15 * time.Minute

// Service is the MonitoringService. Methods that are not built answer UNIMPLEMENTED.
type Service struct {
	hypervisorv1.UnimplementedMonitoringServiceServer
	Feed *feed.Feed
	Now  func() time.Time
	// Draining is closed when the server ends; streams then end too.
	Draining <-chan struct{}
	VMs      VMs
	// Machines and Folders tell where the files of a VM are.
	Machines Machines
	Folders  Folders
	// LogDir is where the virtualiser writes its logs.
	LogDir string
	// Dial connects to VMs.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Metadata sees what guests ask the metadata service for.
	Metadata MetadataTrace
	// Bridges returns the names of the subnets' bridges.
	Bridges func() []string
	Leases  ExternalLeases
}

// VMs knows the VMs.
type VMs interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
}

var _ hypervisorv1.MonitoringServiceServer = (*Service)(nil)

// GetUpdates implements MonitoringService.
func (s *Service) GetUpdates(stream grpc.BidiStreamingServer[hypervisorv1.GetUpdatesRequest, hypervisorv1.GetUpdatesResponse]) (failure error) {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	leases := &streamLeases{service: s.Leases}
	defer func() { failure = errors.Join(failure, leases.end(ctx)) }()
	if err := leases.take(ctx, first); err != nil {
		return err
	}
	state, sub := s.Feed.Subscribe(first.GetAfterRevision())
	defer sub.Close()
	if err := stream.Send(&hypervisorv1.GetUpdatesResponse{Update: state}); err != nil {
		return err
	}
	asked, failed := make(chan struct{}, 1), make(chan error, 1)
	if err == nil {
		go func() { failed <- receive(ctx, stream, leases, asked) }()
	}
	return s.pump(ctx, stream, sub, state.GetRevision(), asked, failed)
}

// receive turns each further request into a token on asked. It ends when the client has no more to say (nil) or has gone.
func receive(
	ctx context.Context, stream grpc.BidiStreamingServer[hypervisorv1.GetUpdatesRequest, hypervisorv1.GetUpdatesResponse],
	leases *streamLeases, asked chan<- struct{},
) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = leases.take(ctx, req)
		}
		if err != nil {
			return err
		}
		select {
		case asked <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pump sends what changes, an answer to each request, and a sign of life.
func (s *Service) pump(
	ctx context.Context, stream grpc.BidiStreamingServer[hypervisorv1.GetUpdatesRequest, hypervisorv1.GetUpdatesResponse],
	sub *feed.Subscription, revision uint64, asked <-chan struct{}, failed <-chan error,
) error {
	quiet := time.NewTimer(heartbeat)
	defer quiet.Stop()
	for {
		var message *hypervisorv1.GetUpdatesResponse
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Draining:
			return fault.New(fault.Unavailable, "the server is shutting down; come back with after_revision %d", revision)
		case err := <-failed:
			if err != nil {
				return err
			}
			failed = nil // the client only listens from now on
			continue
		case <-sub.Ready():
			batch := sub.TakeBatch()
			if batch == nil {
				continue
			}
			message, revision = response(ctx, batch), batch.Revision()
		case <-asked:
			message = s.sign(revision)
		case <-quiet.C:
			message = s.sign(revision)
		}
		quiet.Reset(heartbeat)
		if err := stream.Send(message); err != nil {
			return err
		}
	}
}

// sign is a sign of life.
func (s *Service) sign(revision uint64) *hypervisorv1.GetUpdatesResponse {
	return &hypervisorv1.GetUpdatesResponse{Update: &hypervisorv1.Update{Revision: revision, Time: timestamppb.New(s.Now())}}
}

// response is a batch as a message for the transport.
func response(ctx context.Context, b *feed.Batch) *hypervisorv1.GetUpdatesResponse {
	if raw := b.Encoded(); prewire.On(ctx) && len(raw) > 0 {
		return prewire.Message(new(hypervisorv1.GetUpdatesResponse), raw)
	}
	return &hypervisorv1.GetUpdatesResponse{Update: b.Update()}
}
