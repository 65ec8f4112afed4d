package client_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

// TestCalls makes every call that a migration makes, in its order.
func TestCalls(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(o *fakepeer.Options) { o.VM.State = fakepeer.Running })
	c := s.dial()
	vm, err := info(t, c, address)
	if err != nil || vm.GetUuid() != "" || vm.GetHostname() != "src1" || vm.GetState() != hypervisorv1.State_STATE_RUNNING || len(vm.GetVolumes()) != 2 ||
		vm.GetVolumes()[0].GetSize() != 1<<20+512 || vm.GetTags()["env"] != "test" || vm.GetAddress().GetIpAddress() != address {
		t.Errorf("GetVmInfo: %v, %v", vm, err)
	}
	for i, want := range [][]byte{content(1<<20 + 512), content(64 << 10)} {
		got, came, err := fetch(t, c, volumeRequest(uint32(i)), nil)
		if err != nil || !bytes.Equal(got, want) || came != len(want) {
			t.Errorf("volume %d: %d bytes, %d came, %v", i, len(got), came, err)
		}
	}
	vms, transfers := hypervisorv1.NewVmServiceClient(c), hypervisorv1.NewVmTransferServiceClient(c)
	_, stopErr := vms.StopVm(t.Context(), &hypervisorv1.StopVmRequest{Vm: address, AccessToken: token()})
	_, prepareErr := transfers.PrepareVmForMigration(t.Context(), &hypervisorv1.PrepareVmForMigrationRequest{Vm: address, AccessToken: token(), Enable: true})
	if state, uncommitted, _ := s.peer.State(); stopErr != nil || prepareErr != nil || state != fakepeer.Migrating || !uncommitted {
		t.Errorf("out of service: %v, %v; state %d", stopErr, prepareErr, state)
	}
	length, data, err := userData(t, c, &hypervisorv1.GetVmUserDataRequest{Vm: address, AccessToken: token()})
	if err != nil || string(data) != "#!/bin/sh\necho hello\n" || length != uint64(len(data)) {
		t.Errorf("user data: %d, %q, %v", length, data, err)
	}
	if _, err := vms.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: address, AccessToken: token()}); err != nil {
		t.Error(err)
	}
	want := []string{"GetVmInfo", "GetVmVolume", "GetVmVolume", "StopVm", "PrepareVmForMigration", "GetVmUserData", "DestroyVm"}
	if diff := cmp.Diff(want, s.peer.Methods()); diff != "" || len(s.peer.Problems()) > 0 {
		t.Errorf("calls (-want +got):\n%s%q", diff, s.peer.Problems())
	}
	for _, call := range s.peer.Calls() {
		if call.Powers != (call.Method == "PrepareVmForMigration") {
			t.Errorf("%s was called with powers %v", call.Method, call.Powers)
		}
	}
}

// TestOnlyWhatDiffers sends more digests, and gets more blocks, than connections hold: both ends must go on at once.
func TestOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	want := content(12<<20 + 100)
	s := newSite(t, func(o *fakepeer.Options) { o.Volumes = [][]byte{want} })
	c := s.dial()
	for name, test := range map[string]struct {
		here func() []byte
		came int
	}{
		"nothing":      {func() []byte { return nil }, len(want)},
		"all":          {func() []byte { return bytes.Clone(want) }, 100},
		"zeros":        {func() []byte { return make([]byte, 12<<20) }, len(want)},
		"another byte": {func() []byte { b := bytes.Clone(want); b[5<<20]++; return b }, 512 + 100},
		"a part":       {func() []byte { return bytes.Clone(want[:1<<20]) }, len(want) - 1<<20},
	} {
		here := test.here()
		got, came, err := fetch(t, c, volumeRequest(0), here)
		if err != nil || !bytes.Equal(got, want) || came != test.came {
			t.Errorf("%s: %d bytes, %d came, want %d: %v", name, len(got), came, test.came, err)
		}
	}
	if p := s.peer.Problems(); len(p) > 0 {
		t.Error(p)
	}
}

// TestRights: what this host may do is not what its callers may.
func TestRights(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	c := s.dial()
	req := volumeRequest(0)
	req.AccessToken = []byte("wrong")
	if _, _, err := fetch(t, c, req, nil); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a volume with a wrong token: %v", err)
	}
	if _, _, err := userData(t, c, &hypervisorv1.GetVmUserDataRequest{Vm: address}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("user data without a token: %v", err)
	}
	vms := hypervisorv1.NewVmServiceClient(c)
	if _, err := vms.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: address}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("DestroyVm without a token: %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	fails := func(kind fakepeer.Kind, text string) []fakepeer.Fault {
		var all []fakepeer.Fault
		for _, m := range []string{"StartVm", "GetVmVolume", "GetVmUserData"} {
			all = append(all, fakepeer.Fault{Method: m, Kind: kind, Text: text, Nth: 1})
		}
		return all
	}
	for name, test := range map[string]struct {
		faults            []fakepeer.Fault
		start, volume, ud codes.Code
	}{
		"refused":          {fails(fakepeer.Refuse, "access to method denied"), codes.PermissionDenied, codes.PermissionDenied, codes.PermissionDenied},
		"unknown service":  {fails(fakepeer.Refuse, "unknown service: Hypervisor"), codes.Unimplemented, codes.Unimplemented, codes.Unimplemented},
		"busy":             {fails(fakepeer.Fail, "mutations blocked"), codes.FailedPrecondition, codes.FailedPrecondition, codes.FailedPrecondition},
		"free text":        {fails(fakepeer.Fail, "disk\nquota \xff exceeded"), codes.Unknown, codes.Unknown, codes.Unknown},
		"in the status":    {fails(fakepeer.Deny, "gob: no")[:1], codes.Unknown, codes.OK, codes.OK},
		"cut":              {fails(fakepeer.Cut, ""), codes.Unavailable, codes.Unavailable, codes.Unavailable},
		"lost":             {fails(fakepeer.Lose, "")[:1], codes.Unavailable, codes.OK, codes.OK},
		"torn":             {fails(fakepeer.Tear, "")[1:], codes.OK, codes.Unavailable, codes.Unavailable},
		"garbage":          {fails(fakepeer.Garbage, ""), codes.DataLoss, codes.DataLoss, codes.DataLoss},
		"block too large":  {fails(fakepeer.Overflow, "")[1:2], codes.OK, codes.DataLoss, codes.OK},
		"block far beyond": {fails(fakepeer.Stray, "")[1:2], codes.OK, codes.DataLoss, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(o *fakepeer.Options) { o.Faults = test.faults })
			c := s.dial()
			for range 2 { // the second time nothing is wrong: what the first left must not disturb
				_, startErr := hypervisorv1.NewVmServiceClient(c).StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: address, AccessToken: token()})
				_, _, volumeErr := fetch(t, c, volumeRequest(0), nil)
				_, _, udErr := userData(t, c, &hypervisorv1.GetVmUserDataRequest{Vm: address, AccessToken: token()})
				got := []codes.Code{status.Code(startErr), status.Code(volumeErr), status.Code(udErr)}
				if want := []codes.Code{test.start, test.volume, test.ud}; !slices.Equal(got, want) {
					t.Errorf("%v, want %v: %v; %v; %v", got, want, startErr, volumeErr, udErr)
				}
				test.start, test.volume, test.ud = codes.OK, codes.OK, codes.OK
				if state, _, _ := s.peer.State(); state == fakepeer.Running {
					test.start = codes.FailedPrecondition
				}
			}
		})
	}
}

func TestNotOnSRPC(t *testing.T) {
	t.Parallel()
	c := newSite(t, nil).dial()
	stream, err := hypervisorv1.NewPeerServiceClient(c).SendVm(t.Context())
	if status.Code(err) != codes.Unimplemented || stream != nil {
		t.Errorf("SendVm: %v", err)
	}
	const method = "/hyperplane.none.v1.NoService/NoMethod"
	if err := c.Invoke(t.Context(), method, &hypervisorv1.GetVmInfoRequest{}, &hypervisorv1.GetVmInfoResponse{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("%s: %v", method, err)
	}
	if _, err := info(t, c, "web1"); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a VM by its name: %v", err)
	}
	if _, err := info(t, c, "10.99.1.99"); status.Code(err) != codes.NotFound {
		t.Errorf("a VM that is not there: %v", err)
	}
}
