package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/health/grpc_health_v1"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// firstAddress is the address of the first VM.
const firstAddress = "10.64.0.2"

// call is one of the calls that are measured.
type call struct {
	name string
	srpc request
	grpc func(ctx context.Context) error
	// limits is the processor time that one may cost the daemon, by the number of VMs.
	limits map[int]time.Duration
}

func (b bench) list() []call {
	always := func(d time.Duration) map[int]time.Duration { return map[int]time.Duration{1: d, 100: d, 1000: d} }
	health := grpc_health_v1.NewHealthClient(b.Conn)
	return []call{
		{"ping", request{}, func(ctx context.Context) error {
			_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			return err
		}, always(15 * time.Microsecond)},
		{
			"GetVmInfo", newRequest("Hypervisor.GetVmInfo", struct{ IpAddress net.IP }{net.ParseIP(firstAddress).To4()}),
			func(ctx context.Context) error {
				_, err := b.VMs.GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: firstAddress})
				return err
			}, always(45 * time.Microsecond),
		},
		{
			"ListVMs", newRequest("Hypervisor.ListVMs", struct{ Sort bool }{true}),
			func(ctx context.Context) error {
				_, err := b.VMs.ListVMs(ctx, &hypervisorv1.ListVMsRequest{Sort: true})
				return err
			},
			map[int]time.Duration{1: 50 * time.Microsecond, 100: 50 * time.Microsecond},
		},
		{
			"GetVmInfos", newRequest("Hypervisor.GetVmInfos", struct{ IgnoreStateMask uint64 }{0}),
			func(ctx context.Context) error {
				_, err := b.VMs.GetVmInfos(ctx, &hypervisorv1.GetVmInfosRequest{})
				return err
			},
			map[int]time.Duration{1000: 2 * time.Millisecond},
		},
	}
}

// calls measures all calls with the VMs that are there.
func (b bench) calls(ctx context.Context) error {
	for _, c := range b.list() {
		for _, way := range []string{"unix", "tls", "grpc"} {
			for _, conns := range []int{1, 4} {
				if err := b.measure(ctx, c, way, conns); err != nil {
					return fmt.Errorf("%s over %s: %w", c.name, way, err)
				}
			}
		}
	}
	return nil
}

// measure makes a call for a while, on each connection one after the other.
func (b bench) measure(ctx context.Context, c call, way string, conns int) error {
	calls := make([]func() error, conns)
	for i := range calls {
		calls[i] = func() error { return c.grpc(ctx) }
		if way == "grpc" {
			continue
		}
		connection, err := b.dial(ctx)
		if err != nil {
			return err
		}
		defer connection.Close()
		if way == "unix" {
			if err := connection.upgrade(ctx); err != nil {
				return err
			}
		}
		calls[i] = func() error { return connection.call(c.srpc) }
	}
	before, err := b.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	var made atomic.Int64
	var g errgroup.Group
	for _, one := range calls {
		g.Go(func() error {
			for time.Since(begin) < b.length {
				if err := one(); err != nil {
					return err
				}
				made.Add(1)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	wall := time.Since(begin)
	after, err := b.CPU()
	if err != nil {
		return err
	}
	each := (after - before) / time.Duration(made.Load())
	limit := ""
	if at := c.limits[b.Created]; at > 0 && way != "grpc" {
		limit = fmt.Sprintf("(at most %v)", at)
	}
	fmt.Printf("%-10s %4d VMs  %-4s %d connections %9.0f calls/s %12v CPU of the daemon each %s\n",
		c.name, b.Created, way, conns, float64(made.Load())/wall.Seconds(), each, limit)
	return nil
}
