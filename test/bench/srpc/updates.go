package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/bench/daemon"
)

const (
	// tag is the tag whose value says when a change was asked for. No other text in an update looks like it.
	tag = "bench-at"
	// lastTag is how the value begins that the last change of a VM has; its UUID follows.
	lastTag = "last "
	// changed is how many VMs change, one after the other.
	changed = 100
)

// watch has subscribers watch while VMs change.
func (b bench) watch(ctx context.Context) error {
	res, err := b.VMs.GetVmInfos(ctx, &hypervisorv1.GetVmInfosRequest{PageSize: changed})
	if err != nil {
		return err
	}
	watchers := make([]*watcher, b.subscribers)
	var following sync.WaitGroup
	for i := range watchers {
		if watchers[i], err = b.subscribe(ctx); err != nil {
			return err
		}
		defer watchers[i].Close()
		following.Go(func() { watchers[i].follow(len(res.GetVmInfos())) })
	}
	before, err := b.CPU()
	if err != nil {
		return err
	}
	begin := time.Now()
	n, err := b.change(ctx, res.GetVmInfos())
	if err != nil {
		return err
	}
	took := time.Since(begin)
	following.Wait()
	after, err := b.CPU()
	if err != nil {
		return err
	}
	var delays []time.Duration
	lost := 0
	for _, w := range watchers {
		delays = append(delays, w.delays...)
		if len(w.ended) < len(res.GetVmInfos()) {
			lost++
		}
	}
	slices.Sort(delays)
	fmt.Printf("%d changes, %.0f/s, to %d watchers: median %.1f ms (less than 15), 99 %% %.1f ms (less than 60); %d watchers did not see the last state; %d changes seen; daemon %.2f cores\n",
		n, float64(n)/took.Seconds(), b.subscribers, delays[len(delays)/2].Seconds()*1000, delays[len(delays)*99/100].Seconds()*1000, lost, len(delays),
		(after-before).Seconds()/took.Seconds())
	return nil
}

// change gives VMs a tag with the time, with a pause in between, and at the end each one the last tag.
func (b bench) change(ctx context.Context, infos []*hypervisorv1.VmInfo) (int, error) {
	config := hypervisorv1.NewVmConfigurationServiceClient(b.Conn)
	set := func(i int, value string) error {
		_, err := config.ChangeVmTags(ctx, &hypervisorv1.ChangeVmTagsRequest{Vm: infos[i%len(infos)].GetUuid(), Tags: map[string]string{tag: value}})
		return err
	}
	tick := time.NewTicker(b.pause)
	defer tick.Stop()
	var g errgroup.Group
	g.SetLimit(16)
	n := 0
	for begin := time.Now(); time.Since(begin) < b.watching; n++ {
		<-tick.C
		g.Go(func() error { return set(n, strconv.FormatInt(time.Now().UnixNano(), 10)) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	for i := range infos {
		if err := set(i, lastTag+infos[i].GetUuid()); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// watcher is a subscriber. It looks for the tags in the bytes that come.
type watcher struct {
	*conn
	delays []time.Duration
	ended  map[string]bool
}

// subscribe asks for updates and drops the first full state.
func (b bench) subscribe(ctx context.Context) (*watcher, error) {
	c, err := b.dial(ctx)
	if err != nil {
		return nil, err
	}
	w := &watcher{conn: c, ended: make(map[string]bool)}
	if _, err := io.WriteString(c, "Hypervisor.GetUpdates\n"); err != nil {
		return nil, err
	}
	if err := c.accepted(); err != nil {
		return nil, err
	}
	_, err = c.message(nil)
	return w, err
}

// follow notes how old each change is when it comes, until the last change of each VM has come.
func (w *watcher) follow(vms int) {
	var raw []byte
	for len(w.ended) < vms {
		var err error
		if raw, err = w.message(raw[:0]); err != nil {
			return
		}
		now := time.Now()
		for value := range daemon.Values(raw, tag) {
			if uuid, last := strings.CutPrefix(value, lastTag); last {
				w.ended[uuid] = true
			} else if nanos, err := strconv.ParseInt(value, 10, 64); err == nil {
				w.delays = append(w.delays, now.Sub(time.Unix(0, nanos)))
			}
		}
	}
}
