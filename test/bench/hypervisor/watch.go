package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// connections are how many connections the watchers share.
const connections = 20

// lastTag is the value that the last change of a VM has.
const lastTag = "last"

// watch has many subscribers watch while VMs change, and tells how long a change takes to reach them.
func (d *daemon) watch(ctx context.Context, o options) error {
	uuids, err := d.some(ctx, 200)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watchers []*watcher
	var ccs []*grpc.ClientConn
	for range connections {
		cc, err := d.dial()
		if err != nil {
			return err
		}
		defer cc.Close()
		ccs = append(ccs, cc)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	for i := range o.subscribers {
		w := &watcher{ended: make(map[string]bool)}
		watchers = append(watchers, w)
		g.Go(func() error { return w.open(ctx, ccs[i%connections]) })
	}
	if err := g.Wait(); err != nil {
		return errors.Join(err, gctx.Err())
	}
	var following sync.WaitGroup
	for _, w := range watchers {
		following.Go(func() { w.follow(len(uuids)) })
	}
	before, err := d.cpu()
	if err != nil {
		return err
	}
	begin := time.Now()
	changes, err := d.change(ctx, uuids, o)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	following.Wait()
	after, err := d.cpu()
	if err != nil {
		return err
	}
	memory, err := d.memory()
	if err != nil {
		return err
	}
	var delays []time.Duration
	lost := 0
	for _, w := range watchers {
		delays = append(delays, w.delays...)
		if len(w.ended) < len(uuids) {
			lost++
		}
	}
	slices.Sort(delays)
	fmt.Printf("%-58s median %.1f ms (at most 20), 99 %% %.1f ms; %d watchers did not see the last state; %.0f changes/s; daemon %.2f cores, %d MiB at most\n",
		fmt.Sprintf("%d changes to %d watchers", changes, o.subscribers), ms(delays[len(delays)/2]), ms(delays[len(delays)*99/100]), lost,
		float64(changes)/took.Seconds(), (after-before).Seconds()/took.Seconds(), memory)
	return nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// some returns the UUIDs of some VMs.
func (d *daemon) some(ctx context.Context, n uint32) ([]string, error) {
	res, err := d.vms.GetVmInfos(ctx, &hypervisorv1.GetVmInfosRequest{PageSize: n})
	if err != nil {
		return nil, err
	}
	var uuids []string
	for _, info := range res.GetVmInfos() {
		uuids = append(uuids, info.GetUuid())
	}
	return uuids, nil
}

// change gives VMs a tag with the time, at a rate, and at the end each one the last tag.
func (d *daemon) change(ctx context.Context, uuids []string, o options) (int, error) {
	config := hypervisorv1.NewVmConfigurationServiceClient(d.cc)
	set := func(uuid, value string) error {
		_, err := config.ChangeVmTags(ctx, &hypervisorv1.ChangeVmTagsRequest{Vm: uuid, Tags: map[string]string{"at": value}})
		return err
	}
	tick := time.NewTicker(time.Second / time.Duration(o.rate))
	defer tick.Stop()
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(64)
	n := int(o.length.Seconds()) * o.rate
	for i := range n {
		<-tick.C
		g.Go(func() error { return set(uuids[i%len(uuids)], strconv.FormatInt(time.Now().UnixNano(), 10)) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	for _, uuid := range uuids {
		if err := set(uuid, lastTag); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// watcher is a subscriber.
type watcher struct {
	stream hypervisorv1.MonitoringService_GetUpdatesClient
	delays []time.Duration
	ended  map[string]bool
}

// open subscribes to what comes and drops the first full state.
func (w *watcher) open(ctx context.Context, cc *grpc.ClientConn) error {
	var err error
	if w.stream, err = hypervisorv1.NewMonitoringServiceClient(cc).GetUpdates(ctx); err != nil {
		return err
	}
	if err := w.stream.Send(&hypervisorv1.GetUpdatesRequest{}); err != nil {
		return err
	}
	_, err = w.stream.Recv()
	return err
}

// follow notes how old each change is when it comes, until the last change of each VM has come.
func (w *watcher) follow(vms int) {
	for len(w.ended) < vms {
		m, err := w.stream.Recv()
		if err != nil {
			return
		}
		now := time.Now()
		for _, info := range m.GetUpdate().GetVms() {
			at := info.GetTags()["at"]
			if at == lastTag {
				w.ended[info.GetUuid()] = true
				continue
			}
			if nanos, err := strconv.ParseInt(at, 10, 64); err == nil {
				w.delays = append(w.delays, now.Sub(time.Unix(0, nanos)))
			}
		}
	}
}
