package parity_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
)

// alone says which methods need a server of their own, because they change what the other cases rely on, and how it is configured.
func alone(method string) (change func(*config.Config), ok bool) {
	switch method {
	case "PowerOff", "SetDisabledState", "PrepareVmForMigration":
		return func(*config.Config) {}, true
	case "ProbeVmPort": // its VM has an address that the test can listen on
		return func(c *config.Config) {
			c.Subnets = []config.Subnet{{
				ID: "loopback", Bridge: "loopback0", Gateway: netip.MustParsePrefix("127.88.0.1/24"),
				First: netip.MustParseAddr("127.88.0.10"), Last: netip.MustParseAddr("127.88.0.20"),
			}}
		}, true
	case "ChangeVmSubnet":
		return withSecondSubnet, true
	case "UpdateSubnets", "ChangeAddressPool", "RegisterExternalLeases", "NetbootMachine":
		return withLoopbackSubnet, true
	case "ChangeVmVolumeStorageIndex":
		return func(c *config.Config) { c.MoreVolumeDirs = []string{filepath.Join(c.StateDir, "more-volumes")} }, true
	default:
		return nil, false
	}
}

// hostCases are those of the host, and of what is seen of its VMs.
func hostCases() map[string]unaryCase {
	return map[string]unaryCase{
		"ChangeOwners": {
			func(context.Context, *world) proto.Message {
				return &hypervisorv1.ChangeOwnersRequest{OwnerUsers: []string{"host-owner"}, OwnerGroups: []string{"host-owners"}}
			},
			func(ctx context.Context, t *testing.T, w *world, _, _ proto.Message) {
				t.Helper()
				owner := hypervisorv1.NewHostServiceClient(w.DialAs(w.ClientCertificate("host-owner")))
				if _, err := owner.HoldVmLock(ctx, &hypervisorv1.HoldVmLockRequest{Vm: w.vm(ctx, false)}); err != nil {
					t.Errorf("an owner of the host has no power: %v", err)
				}
			},
		},
		"GetRootCookiePath": {
			func(context.Context, *world) proto.Message { return &hypervisorv1.GetRootCookiePathRequest{} },
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				path := as(t, res, &hypervisorv1.GetRootCookiePathResponse{}).GetPath()
				if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 || st.Size() != 32 {
					t.Errorf("%s: %v, %v", path, st, err)
				}
			},
		},
		"HoldLock": held(func(context.Context, *world) proto.Message {
			return &hypervisorv1.HoldLockRequest{Timeout: durationpb.New(holdTime), WriteLock: true}
		}),
		"HoldVmLock": held(func(ctx context.Context, w *world) proto.Message {
			return &hypervisorv1.HoldVmLockRequest{Vm: w.vm(ctx, false), Timeout: durationpb.New(holdTime)}
		}),
		"PowerOff": {
			func(ctx context.Context, w *world) proto.Message {
				w.vm(ctx, true)
				return &hypervisorv1.PowerOffRequest{StopVms: true}
			},
			func(ctx context.Context, t *testing.T, w *world, _, _ proto.Message) {
				t.Helper()
				if _, err := os.Stat(w.Config.PowerOffCommand[1]); err != nil {
					t.Errorf("the command has not run: %v", err)
				}
				res, err := w.vms().GetVmInfos(ctx, &hypervisorv1.GetVmInfosRequest{})
				if err != nil || len(res.GetVmInfos()) != 1 || res.GetVmInfos()[0].GetState() != hypervisorv1.State_STATE_STOPPED {
					t.Errorf("VMs: %v, %v", res, err)
				}
			},
		},
		"SetDisabledState": {
			func(context.Context, *world) proto.Message {
				return &hypervisorv1.SetDisabledStateRequest{Disable: true}
			},
			func(ctx context.Context, t *testing.T, w *world, _, _ proto.Message) {
				t.Helper()
				w.untilHost(ctx, (*hypervisorv1.HostStatus).GetDisabled)
				w.Restart()
				w.cc = w.Dial(true)
				w.untilHost(ctx, (*hypervisorv1.HostStatus).GetDisabled)
				_, err := w.vms().CreateVmAsync(ctx, &hypervisorv1.CreateVmAsyncRequest{Spec: spec(false)})
				if status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "Hypervisor is disabled" {
					t.Errorf("a disabled host makes a VM: %v", err)
				}
			},
		},
		"ListVmVirtualiserLogFiles": {
			func(ctx context.Context, w *world) proto.Message {
				vm, _ := w.vmWithLog(ctx, "a log")
				return &hypervisorv1.ListVmVirtualiserLogFilesRequest{Vm: vm}
			},
			func(ctx context.Context, t *testing.T, w *world, req, res proto.Message) {
				t.Helper()
				uuid := w.info(ctx, req.(*hypervisorv1.ListVmVirtualiserLogFilesRequest).GetVm()).GetUuid()
				l := as(t, res, &hypervisorv1.ListVmVirtualiserLogFilesResponse{})
				if !slices.Equal(l.GetFilenames(), []string{uuid + ".log"}) || !slices.Equal(l.GetLengths(), []uint64{5}) {
					t.Errorf("files: %v", l)
				}
			},
		},
		"ProbeVmPort": {
			func(ctx context.Context, w *world) proto.Message {
				vm := w.vm(ctx, true)
				ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(vm, "0"))
				if err != nil {
					w.t.Fatal(err)
				}
				w.t.Cleanup(func() { _ = ln.Close() })
				port := ln.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
				return &hypervisorv1.ProbeVmPortRequest{Vm: vm, PortNumber: uint32(port), Timeout: durationpb.New(patience)}
			},
			func(ctx context.Context, t *testing.T, w *world, req, res proto.Message) {
				t.Helper()
				if !as(t, res, &hypervisorv1.ProbeVmPortResponse{}).GetPortIsOpen() {
					t.Error("an open port is said to be closed")
				}
				closed := &hypervisorv1.ProbeVmPortRequest{Vm: req.(*hypervisorv1.ProbeVmPortRequest).GetVm(), PortNumber: 1}
				if got, err := w.monitoring().ProbeVmPort(ctx, closed); err != nil || got.GetPortIsOpen() {
					t.Errorf("a closed port: %v, %v", got, err)
				}
			},
		},
	}
}

const holdTime = 50 * time.Millisecond

// held is a case whose call takes as long as a lock is held.
func held(request func(ctx context.Context, w *world) proto.Message) unaryCase {
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message {
			req := request(ctx, w)
			w.uuids.Store(req, time.Now())
			return req
		},
		func(_ context.Context, t *testing.T, w *world, req, _ proto.Message) {
			t.Helper()
			begin, _ := w.uuids.Load(req)
			if took := time.Since(begin.(time.Time)); took < holdTime {
				t.Errorf("held for %v", took)
			}
		},
	}
}

func (w *world) monitoring() hypervisorv1.MonitoringServiceClient {
	return hypervisorv1.NewMonitoringServiceClient(w.cc)
}

// untilHost waits until the host's figures are as wanted.
func (w *world) untilHost(ctx context.Context, wanted func(*hypervisorv1.HostStatus) bool) {
	w.t.Helper()
	stream, err := w.monitoring().GetUpdates(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.GetUpdatesRequest{}); err != nil {
		w.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			w.t.Fatal(err)
		}
		if wanted(m.GetUpdate().GetHost()) {
			return
		}
	}
}
