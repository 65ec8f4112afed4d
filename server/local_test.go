package server_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// foreign is a machine that somebody else defined at the virtualiser.
type foreign struct {
	t    *testing.T
	s    *servertest.Server
	uuid string
	file string
}

func newForeign(t *testing.T) *foreign {
	t.Helper()
	f := &foreign{t: t, s: servertest.Start(t, nil), uuid: uuid.NewString()}
	f.file = filepath.Join(f.s.Config.StateDir, "theirs.raw")
	if err := os.WriteFile(f.file, content(1<<20, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	d := f.s.Host.Open()
	t.Cleanup(func() { _ = d.Close() })
	err := d.Define(t.Context(), hypervisor.Spec{UUID: f.uuid, Name: "theirs", CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: f.file}}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *foreign) transfers() hypervisorv1.VmTransferServiceClient {
	return hypervisorv1.NewVmTransferServiceClient(f.s.DialSocket())
}

func (f *foreign) cookie() []byte {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.s.Config.StateDir, "root-cookie"))
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *foreign) imports(change func(*hypervisorv1.ImportLocalVmRequest)) error {
	req := &hypervisorv1.ImportLocalVmRequest{
		VerificationCookie: f.cookie(), VolumeFilenames: []string{f.file},
		VmInfo: &hypervisorv1.VmInfo{Hostname: "ours", MemoryInMib: 64, MilliCpus: 500, Address: &hypervisorv1.Address{IpAddress: "10.88.0.99"}},
	}
	if change != nil {
		change(req)
	}
	_, err := f.transfers().ImportLocalVm(f.t.Context(), req)
	return err
}

// known reports whether the virtualiser knows their machine.
func (f *foreign) known() bool {
	f.t.Helper()
	d := f.s.Host.Open()
	defer d.Close()
	_, err := d.Get(f.t.Context(), f.uuid)
	return err == nil
}

func TestTakenOverAndGivenBack(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	if err := f.imports(nil); err != nil {
		t.Fatal(err)
	}
	st, vm, err := state(t.Context(), f.s, "10.88.0.99")
	if err != nil || st != hypervisorv1.State_STATE_RUNNING || !vm.GetUncommitted() || vm.GetVolumes()[0].GetSize() != 1<<20 || vm.GetOwnerUsers()[0] != "root" || !f.known() {
		t.Fatalf("imported: %v %v", vm, err)
	}
	ref := &hypervisorv1.CommitImportedVmRequest{Vm: vm.GetUuid()}
	if _, err := f.transfers().CommitImportedVm(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if _, vm, err := state(t.Context(), f.s, vm.GetUuid()); err != nil || vm.GetUncommitted() || f.known() {
		t.Errorf("committed: %v %v; their machine is known: %v", vm, err, f.known())
	}
	export := &hypervisorv1.ExportLocalVmRequest{Vm: vm.GetUuid(), VerificationCookie: f.cookie(), RestoreDefinition: true}
	if _, err := f.transfers().ExportLocalVm(t.Context(), export); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("export of a running VM: %v", err)
	}
	if _, err := vmsOf(f.s).StopVm(t.Context(), &hypervisorv1.StopVmRequest{Vm: vm.GetUuid()}); err != nil {
		t.Fatal(err)
	}
	res, err := f.transfers().ExportLocalVm(t.Context(), export)
	if err != nil {
		t.Fatal(err)
	}
	volume := res.GetVmInfo().GetLocalVmInfo().GetVolumeLocations()[0].GetFilename()
	got, err := os.ReadFile(volume)
	if err != nil || !bytes.Equal(got, content(1<<20, 3)) || len(res.GetVmInfo().GetBridges()) != 1 ||
		res.GetVmInfo().GetLocalVmInfo().GetVmInfo().GetState() != hypervisorv1.State_STATE_EXPORTING {
		t.Errorf("exported: %v %v", res, err)
	}
	d := f.s.Host.Open()
	defer d.Close()
	if m, err := d.Get(t.Context(), f.uuid); err != nil || m.Name != "theirs" || m.Spec.Disks[0].File != volume {
		t.Errorf("given back: %v %v", m, err)
	}
	if _, err := vmsOf(f.s).StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: vm.GetUuid()}); err != nil {
		t.Errorf("taken back: %v", err)
	}
}

func TestImportsThatFailChangeNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		break_ func(f *foreign)
		change func(*hypervisorv1.ImportLocalVmRequest)
		code   codes.Code
		says   string
	}{
		"running": {func(f *foreign) {
			d := f.s.Host.Open()
			defer d.Close()
			if err := d.Start(f.t.Context(), f.uuid); err != nil {
				f.t.Fatal(err)
			}
		}, nil, codes.FailedPrecondition, "shut it down"},
		"does not start": {func(f *foreign) { f.s.Host.FailNext("Start", errors.New("no such luck")) }, nil, codes.Unknown, "no such luck"},
		"cookie":         {nil, func(r *hypervisorv1.ImportLocalVmRequest) { r.VerificationCookie = []byte("x") }, codes.PermissionDenied, "cookie"},
		"relative":       {nil, func(r *hypervisorv1.ImportLocalVmRequest) { r.VolumeFilenames = []string{"x"} }, codes.InvalidArgument, "absolute"},
		"missing":        {nil, func(r *hypervisorv1.ImportLocalVmRequest) { r.VolumeFilenames = []string{"/no/such"} }, codes.NotFound, "/no/such"},
		"twice": {nil, func(r *hypervisorv1.ImportLocalVmRequest) {
			r.VolumeFilenames = append(r.GetVolumeFilenames(), r.GetVolumeFilenames()...)
		}, codes.InvalidArgument, "twice"},
		"no subnet": {nil, func(r *hypervisorv1.ImportLocalVmRequest) { r.VmInfo.Address.IpAddress = "192.0.2.1" }, codes.InvalidArgument, "192.0.2.1"},
		"other format": {nil, func(r *hypervisorv1.ImportLocalVmRequest) {
			r.VmInfo.Volumes = []*hypervisorv1.Volume{{Format: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2}}
		}, codes.Unknown, "volume_filenames[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForeign(t)
			if c.break_ != nil {
				c.break_(f)
			}
			err := f.imports(c.change)
			if err == nil || (c.code != codes.Unknown && status.Code(err) != c.code) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v and %q", err, c.code, c.says)
			}
			if _, err := os.Stat(f.file); err != nil || !f.known() {
				t.Errorf("their machine is known: %v; its file: %v", f.known(), err)
			}
			nothingLeft(t, f.s)
		})
	}
}
