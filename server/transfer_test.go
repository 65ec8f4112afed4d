package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// pair are two hosts; there may take VMs from here.
type pair struct {
	t           *testing.T
	here, there *servertest.Server
}

func newPair(t *testing.T, powers ...string) *pair {
	t.Helper()
	here, there := servertest.StartPair(t, powers...)
	return &pair{t: t, here: here, there: there}
}

func vmsOf(s *servertest.Server) hypervisorv1.VmServiceClient {
	return hypervisorv1.NewVmServiceClient(s.DialSocket())
}

// vm makes a VM with two volumes and user data here, and a token for it.
func (p *pair) vm(running bool) (*hypervisorv1.VmInfo, []byte) {
	p.t.Helper()
	spec := small()
	spec.VmInfo.Hostname, spec.DoNotStart = "wanderer", !running
	spec.ImageDataSize, spec.UserDataSize = 3<<20, 5
	spec.SecondaryVolumes = []*hypervisorv1.Volume{{Size: 1 << 20, Format: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2}}
	vm, err := sendParts(p.t, p.here, specPart(spec), imagePart(content(3<<20, 7)), userDataPart("hello"))
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := hypervisorv1.NewIdentityServiceClient(p.here.DialSocket()).GetVmAccessToken(p.t.Context(),
		&hypervisorv1.GetVmAccessTokenRequest{Vm: vm.GetUuid(), Lifetime: durationpb.New(time.Hour)})
	if err != nil {
		p.t.Fatal(err)
	}
	return vm, res.GetToken()
}

func file(s *servertest.Server, vm *hypervisorv1.VmInfo, name string) string {
	return filepath.Join(s.Config.StateDir, "volumes", vm.GetUuid(), name)
}

// migrate moves a VM from here to there. at is called with each progress text.
func (p *pair) migrate(vm *hypervisorv1.VmInfo, token []byte, commit bool, at func(string)) error {
	p.t.Helper()
	stream, err := hypervisorv1.NewVmTransferServiceClient(p.there.DialSocket()).MigrateVm(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	start := &hypervisorv1.MigrateVmStart{Vm: vm.GetUuid(), AccessToken: token, SourceHypervisor: p.here.Addr}
	if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}}); err != nil {
		p.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetFinal() {
			return nil
		}
		if m.GetRequestCommit() {
			at("commit?")
			if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Commit{Commit: commit}}); err != nil {
				p.t.Fatal(err)
			}
		}
		at(m.GetProgressMessage())
	}
}

func state(ctx context.Context, s *servertest.Server, ref string) (hypervisorv1.State, *hypervisorv1.VmInfo, error) {
	res, err := vmsOf(s).GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: ref})
	return res.GetVmInfo().GetState(), res.GetVmInfo(), err
}

// same checks that a VM's files there are what they were here.
func (p *pair) same(vm *hypervisorv1.VmInfo, want map[string][]byte) {
	p.t.Helper()
	for name, content := range want {
		if got, err := os.ReadFile(file(p.there, vm, name)); err != nil || !bytes.Equal(got, content) {
			p.t.Errorf("%s: %d bytes, want %d, or other ones: %v", name, len(got), len(content), err)
		}
	}
}

func (p *pair) files(vm *hypervisorv1.VmInfo) map[string][]byte {
	p.t.Helper()
	all := make(map[string][]byte)
	for _, name := range []string{"root", "secondary-volume.0", "user-data.raw"} {
		b, err := os.ReadFile(file(p.here, vm, name))
		if err != nil {
			p.t.Fatal(err)
		}
		all[name] = b
	}
	return all
}

func TestMigration(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		p := newPair(t, "Hypervisor.PrepareVmForMigration")
		vm, token := p.vm(running)
		var steps []string
		err := p.migrate(vm, token, true, func(text string) {
			steps = append(steps, text)
			if text != "stopping VM" {
				return
			}
			// What the guest writes between the passes must come along.
			f, err := os.OpenFile(file(p.here, vm, "root"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.WriteAt([]byte("written meanwhile"), 1<<20)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil {
			t.Fatal(err, steps)
		}
		if _, err := os.Stat(filepath.Dir(file(p.here, vm, "root"))); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the source has files: %v", err)
		}
		if _, _, err := state(t.Context(), p.here, vm.GetUuid()); status.Code(err) != codes.NotFound {
			t.Errorf("the source: %v", err)
		}
		st, moved, err := state(t.Context(), p.there, vm.GetAddress().GetIpAddress())
		if err != nil || st != hypervisorv1.State_STATE_RUNNING || moved.GetUuid() != vm.GetUuid() || moved.GetUncommitted() ||
			moved.GetAddress().GetMacAddress() != vm.GetAddress().GetMacAddress() || len(moved.GetVolumes()) != 2 {
			t.Errorf("moved: %v %v", moved, err)
		}
		root, err := os.ReadFile(file(p.there, vm, "root"))
		want := content(3<<20, 7)
		if running {
			copy(want[1<<20:], "written meanwhile")
		}
		if err != nil || !bytes.Equal(root, want) {
			t.Errorf("running %v: the root volume is another: %v", running, err)
		}
		if !running && slices.Contains(steps, "stopping VM") {
			t.Errorf("steps: %q", steps)
		}
		p.there.Restart()
		if st, _, err := state(t.Context(), p.there, vm.GetUuid()); err != nil || st != hypervisorv1.State_STATE_RUNNING {
			t.Errorf("after a restart: %v %v", st, err)
		}
	}
}

func TestMigrationsThatFailChangeNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		powers []string
		break_ func(p *pair, token []byte) []byte
		commit bool
		code   codes.Code
		want   string
	}{
		"abandoned":   {[]string{"Hypervisor.PrepareVmForMigration"}, nil, false, codes.Aborted, "VM migration abandoned"},
		"no power":    {nil, nil, true, codes.PermissionDenied, "take the VM out of service"},
		"no token":    {[]string{"*.*"}, func(*pair, []byte) []byte { return nil }, true, codes.PermissionDenied, "access_token"},
		"wrong token": {[]string{"*.*"}, func(_ *pair, token []byte) []byte { return slices.Repeat([]byte{1}, len(token)) }, true, codes.PermissionDenied, "token"},
		"does not start": {[]string{"Hypervisor.PrepareVmForMigration"}, func(p *pair, token []byte) []byte {
			p.there.Host.FailNext("Start", errors.New("no such luck"))
			return token
		}, true, codes.Unknown, "no such luck"},
		"address taken": {[]string{"Hypervisor.PrepareVmForMigration"}, func(p *pair, token []byte) []byte {
			spec := small()
			spec.MinimumFreeBytes = 4096
			if _, err := create(p.t, p.there, spec, nil); err != nil {
				p.t.Fatal(err)
			}
			return token
		}, true, codes.AlreadyExists, "in use by VM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, c.powers...)
			vm, token := p.vm(true)
			if c.break_ != nil {
				token = c.break_(p, token)
			}
			before := p.files(vm)
			err := p.migrate(vm, token, c.commit, func(string) {})
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %v and %q", err, c.code, c.want)
			}
			if st, info, err := state(t.Context(), p.here, vm.GetUuid()); err != nil || st != hypervisorv1.State_STATE_RUNNING || info.GetUncommitted() {
				t.Errorf("the source: %v %v", info, err)
			}
			for name, content := range before {
				if got, err := os.ReadFile(file(p.here, vm, name)); err != nil || !bytes.Equal(got, content) {
					t.Errorf("the source's %s has changed: %v", name, err)
				}
			}
			if _, err := os.Stat(filepath.Dir(file(p.there, vm, "root"))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the destination has files: %v", err)
			}
			if _, _, err := state(t.Context(), p.there, vm.GetUuid()); status.Code(err) != codes.NotFound {
				t.Errorf("the destination: %v", err)
			}
		})
	}
}

func TestCopy(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		p := newPair(t)
		vm, token := p.vm(running)
		want := p.files(vm)
		stream, err := hypervisorv1.NewVmTransferServiceClient(p.there.DialSocket()).CopyVm(t.Context(), &hypervisorv1.CopyVmRequest{
			Vm: vm.GetUuid(), AccessToken: token, SourceHypervisor: p.here.Addr, VmInfo: &hypervisorv1.VmInfo{Hostname: "twin", MemoryInMib: 128},
		})
		if err != nil {
			t.Fatal(err)
		}
		var last *hypervisorv1.CopyVmResponse
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = m
		}
		st, twin, err := state(t.Context(), p.there, last.GetIpAddress())
		if !last.GetFinal() || err != nil || st != hypervisorv1.State_STATE_STOPPED || twin.GetUuid() == vm.GetUuid() || twin.GetHostname() != "twin" ||
			twin.GetMemoryInMib() != 128 || twin.GetMilliCpus() != vm.GetMilliCpus() || twin.GetUncommitted() || !slices.Equal(twin.GetOwnerUsers(), []string{"root"}) {
			t.Errorf("copy: %v %v", twin, err)
		}
		p.same(twin, want)
		wantState := hypervisorv1.State_STATE_STOPPED
		if running {
			wantState = hypervisorv1.State_STATE_RUNNING
		}
		if st, _, err := state(t.Context(), p.here, vm.GetUuid()); err != nil || st != wantState {
			t.Errorf("the source: %v %v, want %v", st, err, wantState)
		}
	}
}
