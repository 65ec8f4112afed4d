package monitor

import (
	"context"
	"math"
	"net"
	"strconv"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// probeEvery is the time from one attempt to connect to the next.
	probeEvery = 250 * time.Millisecond
	// attemptTime is how long one attempt may take: a guest that drops packets gives no answer.
	attemptTime = time.Second
)

// ProbeVmPort implements MonitoringService. Without a time-out there is one attempt. The VM may be in any state: one that is about to run opens its ports
// later.
func (s *Service) ProbeVmPort(ctx context.Context, req *hypervisorv1.ProbeVmPortRequest) (*hypervisorv1.ProbeVmPortResponse, error) {
	info, err := s.VMs.Info(req.GetVm())
	if err != nil {
		return nil, err
	}
	port, timeout := req.GetPortNumber(), req.GetTimeout().AsDuration()
	if port < 1 || port > math.MaxUint16 {
		return nil, fault.New(fault.InvalidArgument, "port_number: %d is no TCP port; give 1 to %d", port, math.MaxUint16)
	}
	if timeout < 0 {
		return nil, fault.New(fault.InvalidArgument, "timeout: %v is negative", timeout)
	}
	address := net.JoinHostPort(info.GetAddress().GetIpAddress(), strconv.Itoa(int(port)))
	if timeout == 0 {
		return &hypervisorv1.ProbeVmPortResponse{PortIsOpen: s.connects(ctx, address)}, ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	open := s.probe(limited, address)
	if err := ctx.Err(); !open && err != nil {
		return nil, err
	}
	return &hypervisorv1.ProbeVmPortResponse{PortIsOpen: open}, nil
}

// probe tries until it succeeds or ctx ends.
func (s *Service) probe(ctx context.Context, address string) bool {
	next := time.NewTicker(probeEvery)
	defer next.Stop()
	for !s.connects(ctx, address) {
		select {
		case <-next.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil { // both may have been ready
			return false
		}
	}
	return true
}

// connects says whether the port is open now.
func (s *Service) connects(ctx context.Context, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	conn, err := s.Dial(ctx, "tcp", address)
	if err != nil {
		return false // whatever the reason, the port is not open
	}
	_ = conn.Close() // it was only to see whether it opens
	return true
}
