package client_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

// TestConnections: calls at the same time have connections of their own; one that has died while it lay idle is replaced.
func TestConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	c := s.dial()
	for range 3 {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := info(t, c, address); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		s.peer.Hangup()
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := info(t, c, address); status.Code(err) != codes.Canceled {
		t.Errorf("after Close: %v", err)
	}
}

// TestCancel: a peer that answers nothing does not keep the caller.
func TestCancel(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *fakepeer.Options) {
		o.Faults = []fakepeer.Fault{{Method: "StopVm", Kind: fakepeer.Hang}, {Method: "GetVmVolume", Kind: fakepeer.Hang}}
	})
	c := s.dial()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := hypervisorv1.NewVmServiceClient(c).StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: address}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("StopVm: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	stream, err := hypervisorv1.NewVolumeServiceClient(c).GetVmVolume(ctx)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, cancel)
	_ = stream.Send(volumeRequest(0)) // the receiver learns what became of it
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("GetVmVolume: %v", err)
	}
	if _, err := info(t, c, address); err != nil {
		t.Errorf("the next call: %v", err)
	}
}
