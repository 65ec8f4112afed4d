package main

import (
	"context"
	"fmt"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/bench/daemon"
)

// bench measures a daemon.
type bench struct{ *daemon.Daemon }

// churn creates and destroys VMs one after the other for a while and returns how many a second.
func (d bench) churn(ctx context.Context) (float64, error) {
	const enough = 300
	begin := time.Now()
	for range enough {
		uuid, err := d.Create(ctx)
		if err != nil {
			return 0, err
		}
		if _, err := d.VMs.DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: uuid}); err != nil {
			return 0, err
		}
	}
	return enough / time.Since(begin).Seconds(), nil
}

// idle tells what the daemon does when nobody wants anything.
func (d bench) idle(ctx context.Context) error {
	const watched = 10 * time.Second
	before, err := d.CPU()
	if err != nil {
		return err
	}
	select {
	case <-time.After(watched):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := d.CPU()
	fmt.Printf("%-58s %.2f %% of a core (less than 1)\n", fmt.Sprintf("idle with %d VMs", d.Created), 100*(after-before).Seconds()/watched.Seconds())
	return err
}

// lists measures the calls that return all VMs.
func (d bench) lists(ctx context.Context) error {
	for _, c := range []struct {
		name, want string
		call       func() error
	}{
		{"ListVMs", "1 ms", func() error { _, err := d.VMs.ListVMs(ctx, &hypervisorv1.ListVMsRequest{}); return err }},
		{"GetVmInfos", "25 ms", func() error { _, err := d.VMs.GetVmInfos(ctx, &hypervisorv1.GetVmInfosRequest{}); return err }},
	} {
		const calls = 100
		before, err := d.CPU()
		if err != nil {
			return err
		}
		begin := time.Now()
		for range calls {
			if err := c.call(); err != nil {
				return err
			}
		}
		wall := time.Since(begin)
		after, err := d.CPU()
		if err != nil {
			return err
		}
		fmt.Printf("%-58s %.2f ms, %.2f ms CPU of the daemon (at most %s CPU)\n", fmt.Sprintf("%s of %d VMs", c.name, d.Created),
			wall.Seconds()*1000/calls, (after-before).Seconds()*1000/calls, c.want)
	}
	return nil
}

// restart measures a start with all VMs.
func (d bench) restart(ctx context.Context) error {
	if err := d.Stop(); err != nil {
		return err
	}
	begin := time.Now()
	if err := d.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("%-58s %.2f s (at most 2)\n", fmt.Sprintf("start with %d VMs until the first answer", d.Created), time.Since(begin).Seconds())
	return nil
}
