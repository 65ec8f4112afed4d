package monitor

import (
	"context"
	"net"
	"slices"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/netplane/watch"
)

// WatchDhcp implements MonitoringService. Packets are the DHCP messages themselves, of clients and servers, without the headers around them.
func (s *Service) WatchDhcp(req *hypervisorv1.WatchDhcpRequest, stream grpc.ServerStreamingServer[hypervisorv1.WatchDhcpResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	devices, err := s.devices(req.GetInterface())
	if err != nil {
		return err
	}
	packets, failed, err := watch.Watch(ctx, devices)
	if err != nil {
		return err
	}
	if err := stream.SendHeader(nil); err != nil { // from now on nothing is missed
		return err
	}
	for sent := uint64(0); req.GetMaxPackets() == 0 || sent < req.GetMaxPackets(); sent++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Draining:
			return fault.New(fault.Unavailable, "the server is shutting down; watch again when it is back")
		case err := <-failed:
			if err == nil {
				err = ctx.Err()
			}
			return err
		case p := <-packets:
			if err := stream.Send(&hypervisorv1.WatchDhcpResponse{Interface: p.Interface, Packet: p.Payload}); err != nil {
				return err
			}
		}
	}
	return nil
}

// devices returns the interface that is asked for, or all bridges of subnets that are there.
func (s *Service) devices(name string) ([]string, error) {
	if name != "" {
		return []string{name}, nil
	}
	there, err := net.Interfaces()
	if err != nil {
		return nil, fault.As(fault.Unavailable, err, "network interfaces")
	}
	bridges := slices.DeleteFunc(s.Bridges(), func(b string) bool {
		return !slices.ContainsFunc(there, func(i net.Interface) bool { return i.Name == b })
	})
	if len(bridges) == 0 {
		return nil, fault.New(fault.FailedPrecondition, "interface: none of the subnets' bridges is there yet in the daemon's network; start a VM, or name an interface")
	}
	return bridges, nil
}
