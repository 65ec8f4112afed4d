package server_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

// TestMigrationFromDominatorThatFails: whatever goes wrong at whatever call, the VM is as it was and nothing is here. Then it can be moved.
func TestMigrationFromDominatorThatFails(t *testing.T) {
	t.Parallel()
	last := map[string]int{"GetVmInfo": 1, "GetVmVolume": 4, "StopVm": 1, "PrepareVmForMigration": 1, "GetVmUserData": 1}
	kinds := map[string][]fakepeer.Kind{
		"GetVmInfo": {fakepeer.Fail, fakepeer.Cut, fakepeer.Deny}, "GetVmVolume": {fakepeer.Refuse, fakepeer.Fail, fakepeer.Cut, fakepeer.Tear},
		"StopVm":                {fakepeer.Fail, fakepeer.Cut, fakepeer.Lose, fakepeer.Linger},
		"PrepareVmForMigration": {fakepeer.Refuse, fakepeer.Fail, fakepeer.Cut, fakepeer.Lose}, "GetVmUserData": {fakepeer.Fail, fakepeer.Tear},
	}
	for method, all := range kinds {
		for _, kind := range all {
			for nth := 1; nth <= last[method]; nth++ {
				if kind == fakepeer.Tear && nth == 4 {
					continue // nothing of the second volume comes in the second pass
				}
				t.Run(fmt.Sprintf("%s %d %d", method, nth, kind), func(t *testing.T) {
					t.Parallel()
					s := newStranger(t, true, func(o *fakepeer.Options, _ *config.Config) {
						o.Faults = []fakepeer.Fault{{Method: method, Nth: nth, Kind: kind, Text: "as it happens"}}
					}, "Hypervisor.PrepareVmForMigration")
					texts, err := s.move()
					if err == nil || !strings.Contains(err.Error(), s.peer.Addr) {
						t.Fatal(err, texts)
					}
					s.untouched(fakepeer.Running)
					if texts, err := s.move(); err != nil {
						t.Error("once more:", err, texts)
					}
					s.arrived(true)
				})
			}
		}
	}
}

// TestMigrationFromDominatorRefused is for what is refused, or given up, by either side.
func TestMigrationFromDominatorRefused(t *testing.T) {
	t.Parallel()
	options := func(change func(*fakepeer.Options)) func(*fakepeer.Options, *config.Config) {
		return func(o *fakepeer.Options, _ *config.Config) { change(o) }
	}
	for name, c := range map[string]struct {
		change func(*fakepeer.Options, *config.Config)
		methods,
		mode string
		token []byte
		code  codes.Code
		want  string
		state uint
	}{
		"abandoned":        {nil, "Hypervisor.PrepareVmForMigration", "abandon", nil, codes.Aborted, "VM migration abandoned", fakepeer.Running},
		"no power":         {nil, "Hypervisor.GetVm*", "", nil, codes.PermissionDenied, "take the VM out of service", fakepeer.Running},
		"wrong token":      {nil, "*.*", "", []byte("wrong"), codes.PermissionDenied, "no access to resource", fakepeer.Running},
		"live":             {nil, "*.*", "live", nil, codes.Unimplemented, "speaks only SRPC", fakepeer.Running},
		"being moved":      {options(func(o *fakepeer.Options) { o.VM.State = fakepeer.Migrating }), "*.*", "", nil, codes.FailedPrecondition, "migrating", fakepeer.Migrating},
		"bad host name":    {options(func(o *fakepeer.Options) { o.VM.Hostname = "../../etc" }), "*.*", "", nil, codes.FailedPrecondition, "hostname", fakepeer.Running},
		"virtualiser":      {options(func(o *fakepeer.Options) { o.VM.VirtualiserImageName = "qemu" }), "*.*", "", nil, codes.FailedPrecondition, "virtualiser_image_name", fakepeer.Running},
		"no such subnet":   {options(func(o *fakepeer.Options) { o.VM.SubnetId = "net7" }), "*.*", "", nil, codes.NotFound, "net7", fakepeer.Running},
		"kernel beside it": {options(func(o *fakepeer.Options) { o.ExtraFiles = map[string][]byte{"kernel": []byte("k")} }), "*.*", "", nil, codes.FailedPrecondition, "kernel", fakepeer.Running},
		"larger than said": {options(func(o *fakepeer.Options) { o.VM.Volumes = []srpctest.Volume{{Size: 1 << 20}} }), "*.*", "", nil, codes.DataLoss, "beyond", fakepeer.Running},
		"much too large":   {options(func(o *fakepeer.Options) { o.VM.Volumes = []srpctest.Volume{{Size: 1 << 60}} }), "*.*", "", nil, codes.DataLoss, "bytes", fakepeer.Running},
		"no qcow2":         {options(func(o *fakepeer.Options) { o.VM.Volumes = []srpctest.Volume{{Size: 4 << 20, Format: 1}} }), "*.*", "", nil, codes.InvalidArgument, "qcow2", fakepeer.Running},
		"snapshots": {options(func(o *fakepeer.Options) {
			o.VM.Volumes = []srpctest.Volume{{Size: 3<<20 + 512, Snapshots: map[string]uint64{"a": 1}}}
		}), "*.*", "", nil, codes.FailedPrecondition, "snapshots", fakepeer.Running},
		"gRPC only": {func(_ *fakepeer.Options, c *config.Config) { c.Peers.Protocol = config.ProtocolGRPC }, "*.*", "", nil, codes.Unavailable, "", fakepeer.Running},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStranger(t, true, c.change, c.methods)
			mode, token := hypervisorv1.MigrationMode_MIGRATION_MODE_UNSPECIFIED, strangerToken()
			if c.mode == "live" {
				mode = hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE
			}
			if c.token != nil {
				token = c.token
			}
			texts, err := s.migrate(t.Context(), token, mode, c.mode != "abandon", nil)
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %v and %q; %q", err, c.code, c.want, texts)
			}
			if c.state == fakepeer.Running {
				s.untouched(c.state)
			}
		})
	}
}

// TestMigrationFromDominatorWithWrongToken: a peer says that a VM that is stopped was taken out of service, and does nothing.
func TestMigrationFromDominatorWithWrongToken(t *testing.T) {
	t.Parallel()
	s := newStranger(t, false, nil, "*.*")
	_, err := s.migrate(t.Context(), []byte("wrong"), hypervisorv1.MigrationMode_MIGRATION_MODE_COPY, true, nil)
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "access_token") {
		t.Error(err)
	}
	s.untouched(fakepeer.Stopped)
}

// TestMigrationFromDominatorGivenUp: a client who goes away, while the peer says nothing, leaves everything as it was.
func TestMigrationFromDominatorGivenUp(t *testing.T) {
	t.Parallel()
	for _, f := range []fakepeer.Fault{
		{Method: "StopVm", Nth: 1, Kind: fakepeer.Hang}, {Method: "GetVmVolume", Nth: 3, Kind: fakepeer.Hang}, {Method: "PrepareVmForMigration", Nth: 1, Kind: fakepeer.Hang},
	} {
		t.Run(f.Method, func(t *testing.T) {
			t.Parallel()
			s := newStranger(t, true, func(o *fakepeer.Options, _ *config.Config) { o.Faults = []fakepeer.Fault{f} }, "Hypervisor.*")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, err := s.migrate(ctx, strangerToken(), hypervisorv1.MigrationMode_MIGRATION_MODE_COPY, true, func(text string) {
				if text == "stopping VM" && f.Method == "StopVm" || text == "update volume(s)" {
					cancel()
				}
			})
			if status.Code(err) != codes.Canceled {
				t.Error(err)
			}
			// The client does not wait for the end; whoever moves the VM next does, because it is locked until then.
			until(t, func() bool {
				res, err := vmsOf(s.here).ListVMs(t.Context(), &hypervisorv1.ListVMsRequest{})
				return err == nil && len(res.GetIpAddresses()) == 0
			})
			s.untouched(fakepeer.Running)
		})
	}
}
