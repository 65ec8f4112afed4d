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
}

// VMs knows the VMs.
type VMs interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
}

var _ hypervisorv1.MonitoringServiceServer = (*Service)(nil)

// GetUpdates implements MonitoringService.
func (s *Service) GetUpdates(stream grpc.BidiStreamingServer[hypervisorv1.GetUpdatesRequest, hypervisorv1.GetUpdatesResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := checkUpdates(first); err != nil {
		return err
	}
	state, sub := s.Feed.Subscribe(first.GetAfterRevision())
	defer sub.Close()
	if err := stream.Send(&hypervisorv1.GetUpdatesResponse{Update: state}); err != nil {
		return err
	}
	asked, failed := make(chan struct{}, 1), make(chan error, 1)
	if err == nil {
		go func() { failed <- receive(ctx, stream, asked) }()
	}
	return s.pump(ctx, stream, sub, state.GetRevision(), asked, failed)
}

// checkUpdates refuses what is not served yet.
func checkUpdates(req *hypervisorv1.GetUpdatesRequest) error {
	if req.GetExternalLeases() != nil {
		return fault.New(fault.Unimplemented, "external_leases: are not served on this host yet")
	}
	return nil
}

// receive turns each further request into a token on asked. It ends when the client has no more to say (nil) or has gone.
func receive(
	ctx context.Context, stream grpc.BidiStreamingServer[hypervisorv1.GetUpdatesRequest, hypervisorv1.GetUpdatesResponse], asked chan<- struct{},
) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = checkUpdates(req)
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
		var update *hypervisorv1.Update
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
			if update = sub.Take(); update == nil {
				continue
			}
			revision = update.GetRevision()
		case <-asked:
			update = &hypervisorv1.Update{Revision: revision, Time: timestamppb.New(s.Now())}
		case <-quiet.C:
			update = &hypervisorv1.Update{Revision: revision, Time: timestamppb.New(s.Now())}
		}
		quiet.Reset(heartbeat)
		if err := stream.Send(&hypervisorv1.GetUpdatesResponse{Update: update}); err != nil {
			return err
		}
	}
}
