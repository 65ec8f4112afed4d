package server_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hyperplane-project/hyperplane/converters/all"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
	"github.com/hyperplane-project/hyperplane/server/vm"
	"github.com/hyperplane-project/hyperplane/server/volume"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

func TestMigrationFromDominator(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running %v", running), func(t *testing.T) {
			t.Parallel()
			s := newStranger(t, running, nil, "Hypervisor.PrepareVmForMigration")
			if texts, err := s.move(); err != nil {
				t.Fatal(err, texts)
			}
			info := s.arrived(running)
			if _, _, gone := s.peer.State(); !gone {
				t.Error("the VM is still at the peer")
			}
			want := []string{"GetVmInfo", "PrepareVmForMigration", "GetVmInfo", "GetVmVolume", "GetVmVolume", "GetVmUserData", "DestroyVm"}
			if running {
				want = slices.Insert(want, 1, "GetVmVolume", "GetVmVolume", "StopVm")
			}
			if diff := cmp.Diff(want, s.peer.Methods()); diff != "" || len(s.peer.Problems()) > 0 {
				t.Errorf("calls (-want +got):\n%s%q", diff, s.peer.Problems())
			}
			if running { // the second time only what the guest wrote comes: one block
				calls := s.peer.Calls()
				if got := calls[6].Sent + calls[7].Sent; got != 1<<(len(fmt.Sprintf("%b", 3<<20+512))/2)+512 {
					t.Errorf("the second pass brought %d bytes", got)
				}
			}
			s.here.Restart()
			if st, _, err := state(t.Context(), s.here, info.GetUuid()); err != nil || st != hypervisorv1.State_STATE_RUNNING {
				t.Errorf("after a restart: %v %v", st, err)
			}
		})
	}
}

// TestMigrationFromDominatorLiveOrCopy says why it copies.
func TestMigrationFromDominatorLiveOrCopy(t *testing.T) {
	t.Parallel()
	s := newStranger(t, true, nil, "Hypervisor.*")
	texts, err := s.migrate(t.Context(), strangerToken(), hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE_OR_COPY, true, nil)
	if err != nil || !strings.Contains(strings.Join(texts, "\n"), "it is copied, because") || !strings.Contains(strings.Join(texts, "\n"), "speaks only SRPC") {
		t.Error(err, texts)
	}
	s.arrived(true)
}

// TestMigrationFromDominatorAfterCommit: from the commit on the VM is here, whatever the peer says.
func TestMigrationFromDominatorAfterCommit(t *testing.T) {
	t.Parallel()
	for _, kind := range []fakepeer.Kind{fakepeer.Fail, fakepeer.Lose, fakepeer.Cut} {
		s := newStranger(t, false, func(o *fakepeer.Options, _ *config.Config) {
			o.Faults = []fakepeer.Fault{{Method: "DestroyVm", Kind: kind, Text: "no such luck"}}
		}, "Hypervisor.*")
		texts, err := s.move()
		if err != nil || !strings.Contains(texts[len(texts)-1], "could not be destroyed at the source") {
			t.Error(kind, err, texts)
		}
		s.arrived(false)
		if st, _, _ := s.peer.State(); st != fakepeer.Migrating {
			t.Errorf("%d: at the peer the VM has state %d", kind, st)
		}
		if p := s.peer.Problems(); len(p) > 0 || slices.Index(s.peer.Methods(), "DestroyVm") != len(s.peer.Methods())-1 {
			t.Errorf("%d: %q, %q", kind, p, s.peer.Methods())
		}
	}
}

// TestQCOW2FromDominator brings a VM whose root volume is a qcow2 file.
func TestQCOW2FromDominator(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	maker := &volume.Maker{Formats: all.Formats()}
	if _, err := maker.Empty(t.Context(), vm.VolumeSpec{File: path, Format: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2, Size: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newStranger(t, false, func(o *fakepeer.Options, _ *config.Config) {
		o.Volumes, o.VM.Volumes = [][]byte{want}, []srpctest.Volume{{Size: uint64(len(want)), Format: 1}}
	}, "Hypervisor.*")
	if _, err := s.move(); err != nil {
		t.Fatal(err)
	}
	_, info, err := state(t.Context(), s.here, strangerIP)
	if err != nil || info.GetVolumes()[0].GetVirtualSize() != 64<<20 || info.GetVolumes()[0].GetFormat() != hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
		t.Errorf("%v %v", info, err)
	}
	if got, err := os.ReadFile(file(s.here, info, "root")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
	}
}

func TestCopyFromDominator(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		running bool
		token   []byte
		fault   fakepeer.Fault
		code    codes.Code
	}{
		"stopped": {false, nil, fakepeer.Fault{}, codes.OK}, "running": {true, nil, fakepeer.Fault{}, codes.OK},
		"wrong token": {true, []byte("wrong"), fakepeer.Fault{}, codes.PermissionDenied},
		"stop lost":   {true, nil, fakepeer.Fault{Method: "StopVm", Kind: fakepeer.Lose}, codes.Unavailable},
		"torn":        {true, nil, fakepeer.Fault{Method: "GetVmVolume", Nth: 3, Kind: fakepeer.Tear}, codes.Unavailable},
		"user data":   {true, nil, fakepeer.Fault{Method: "GetVmUserData", Kind: fakepeer.Cut}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStranger(t, c.running, func(o *fakepeer.Options, _ *config.Config) { o.Faults = []fakepeer.Fault{c.fault} }, "*.*")
			before, _, _ := s.peer.State()
			token := strangerToken()
			if c.token != nil {
				token = c.token
			}
			ip, err := s.copy(token)
			if status.Code(err) != c.code {
				t.Fatalf("%v, want %v", err, c.code)
			}
			if c.code != codes.OK {
				s.untouched(before)
				return
			}
			st, twin, err := state(t.Context(), s.here, ip)
			if err != nil || st != hypervisorv1.State_STATE_STOPPED || twin.GetHostname() != "twin" || twin.GetTags()["env"] != "test" || ip == strangerIP ||
				!slices.Equal(twin.GetOwnerUsers(), []string{"root"}) || twin.GetUuid() == "" {
				t.Errorf("copy: %v %v", twin, err)
			}
			s.contents(twin, c.running)
			if after, _, gone := s.peer.State(); after != before || gone || len(s.peer.Problems()) > 0 {
				t.Errorf("the source has state %d, want %d; %q", after, before, s.peer.Problems())
			}
		})
	}
}

// TestMigrationOverSRPC has two Hyperplanes speak SRPC with each other: what the client side says, the server side understands.
func TestMigrationOverSRPC(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		here, there := servertest.StartPairWith(t, func(c *config.Config) { c.Peers.Protocol = config.ProtocolSRPC }, "Hypervisor.PrepareVmForMigration")
		p := &pair{t: t, here: here, there: there}
		vm, token := p.vm(running)
		want := p.files(vm)
		ip := vm.GetAddress().GetIpAddress()
		asked := &hypervisorv1.VmInfo{Uuid: ip} // SRPC has no other name for a VM
		if err := p.migrate(asked, []byte("wrong"), true, func(string) {}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("wrong token: %v", err)
		}
		if err := p.migrate(asked, token, false, func(string) {}); status.Code(err) != codes.Aborted {
			t.Errorf("abandoned: %v", err)
		}
		if err := p.migrate(asked, token, true, func(string) {}); err != nil {
			t.Fatal(err)
		}
		st, moved, err := state(t.Context(), there, ip)
		if err != nil || st != hypervisorv1.State_STATE_RUNNING || moved.GetUuid() == vm.GetUuid() || moved.GetHostname() != "wanderer" {
			t.Errorf("%v %v", moved, err)
		}
		p.same(moved, want)
		if _, _, err := state(t.Context(), here, ip); status.Code(err) != codes.NotFound {
			t.Errorf("the source: %v", err)
		}
	}
}
