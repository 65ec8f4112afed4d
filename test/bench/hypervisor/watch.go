package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/bench/daemon"
)

// connections are how many connections the watchers share.
const connections = 20

// tagKey is how a tag "at" begins in a map's entry: the key is field 1 and the value field 2, each with its length before it.
const tagKey = "\x0a\x02at\x12"

// lastTag is how the value begins that the last change of a VM has; its UUID follows.
const lastTag = "last "

// watch has many subscribers watch while VMs change, and tells how long a change takes to reach them.
func (d bench) watch(ctx context.Context, o options) error {
	uuids, err := d.some(ctx, 200)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watchers []*watcher
	var ccs []*grpc.ClientConn
	for range connections {
		cc, err := d.Dial()
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
	before, err := d.CPU()
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
	after, err := d.CPU()
	if err != nil {
		return err
	}
	memory, err := d.Memory()
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
func (d bench) some(ctx context.Context, n uint32) ([]string, error) {
	res, err := d.VMs.GetVmInfos(ctx, &hypervisorv1.GetVmInfosRequest{PageSize: n})
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
func (d bench) change(ctx context.Context, uuids []string, o options) (int, error) {
	config := hypervisorv1.NewVmConfigurationServiceClient(d.Conn)
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
		if err := set(uuid, lastTag+uuid); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// watcher is a subscriber. It looks for the tags in the bytes that come and decodes nothing else: a thousand of them share this process with each other, and
// it is the daemon that is measured.
type watcher struct {
	stream grpc.ClientStream
	delays []time.Duration
	ended  map[string]bool
}

// open subscribes to what comes and drops the first full state.
func (w *watcher) open(ctx context.Context, cc *grpc.ClientConn) error {
	var err error
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	w.stream, err = cc.NewStream(ctx, desc, hypervisorv1.MonitoringService_GetUpdates_FullMethodName, grpc.ForceCodecV2(bytesCodec{}))
	if err != nil {
		return err
	}
	if err := w.stream.SendMsg(&hypervisorv1.GetUpdatesRequest{}); err != nil {
		return err
	}
	return w.stream.RecvMsg(new([]byte))
}

// follow notes how old each change is when it comes, until the last change of each VM has come.
func (w *watcher) follow(vms int) {
	var raw []byte
	for len(w.ended) < vms {
		if w.stream.RecvMsg(&raw) != nil {
			return
		}
		now := time.Now()
		for value := range daemon.Values(raw, tagKey) {
			if uuid, last := strings.CutPrefix(value, lastTag); last {
				w.ended[uuid] = true
			} else if nanos, err := strconv.ParseInt(value, 10, 64); err == nil {
				w.delays = append(w.delays, now.Sub(time.Unix(0, nanos)))
			}
		}
	}
}

// bytesCodec hands messages on as bytes.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no message", v)
	}
	raw, err := proto.Marshal(m)
	return mem.BufferSlice{mem.SliceBuffer(raw)}, err
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("%T is no place for bytes", v)
	}
	*into = data.Materialize()
	return nil
}
