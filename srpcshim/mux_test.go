package srpcshim_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/srpcshim"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

func ip(text string) net.IP { return net.ParseIP(text) }

// answering is a service with one VM.
func answering() *services {
	created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	return &services{
		stop: func(context.Context, *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error) {
			return nil, fault.New(fault.PermissionDenied, "no access to resource")
		},
		vmInfo: func(_ context.Context, r *hypervisorv1.GetVmInfoRequest) (*hypervisorv1.GetVmInfoResponse, error) {
			if r.GetVm() != "10.0.0.1" {
				return nil, fault.New(fault.NotFound, "no VM with IP address: %s found", r.GetVm())
			}
			return &hypervisorv1.GetVmInfoResponse{VmInfo: &hypervisorv1.VmInfo{
				Address: &hypervisorv1.Address{IpAddress: "10.0.0.1", MacAddress: "52:54:0a:00:00:01"}, State: hypervisorv1.State_STATE_STOPPED,
				CreatedOn: timestamppb.New(created), CpuPriority: -3, Uuid: "stays here", MilliCpus: 250, Tags: map[string]string{"a": "b"},
				NetworkEntries: []*hypervisorv1.NetworkEntry{{NumQueues: 2}}, ConsoleType: hypervisorv1.ConsoleType_CONSOLE_TYPE_VNC,
				Volumes: []*hypervisorv1.Volume{{Size: 1 << 40, Snapshots: map[string]uint64{"s": 5}, Interface: hypervisorv1.VolumeInterface_VOLUME_INTERFACE_NVME}},
			}}, nil
		},
		list: func(_ context.Context, r *hypervisorv1.ListVMsRequest) (*hypervisorv1.ListVMsResponse, error) {
			if r.GetIgnoreStateMask() == 99 {
				return nil, fault.New(fault.InvalidArgument, "two\nlines")
			}
			return &hypervisorv1.ListVMsResponse{IpAddresses: append([]string{"10.0.0.1", "fd00::1"}, r.GetVmTagsToMatch()["k"].GetValues()...)}, nil
		},
	}
}

func TestGobCall(t *testing.T) {
	t.Parallel()
	c := serve(t, answering(), nil).dial(srpctest.SecureGob, "alice")
	var reply srpctest.GetVmInfoReply
	if err := c.Call("Hypervisor.GetVmInfo", srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, &reply); err != nil {
		t.Fatal(err)
	}
	want := srpctest.VmInfo{
		Address: srpctest.Address{IpAddress: net.IP{10, 0, 0, 1}, MacAddress: "52:54:0a:00:00:01"}, State: 4, CpuPriority: -3, MilliCPUs: 250,
		CreatedOn: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), ConsoleType: 2, Tags: map[string]string{"a": "b"},
		NetworkEntries: []struct{ NumQueues uint }{{2}}, Volumes: []srpctest.Volume{{Size: 1 << 40, Snapshots: map[string]uint64{"s": 5}, Interface: 2}},
	}
	if diff := cmp.Diff(want, reply.VmInfo); diff != "" || reply.Error != "" {
		t.Errorf("error %q; diff:\n%s", reply.Error, diff)
	}
	var list srpctest.ListVMsReply
	if err := c.Call("Hypervisor.ListVMs", srpctest.ListRequest{VmTagsToMatch: map[string][]string{"k": {"10.0.0.7"}}}, &list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]net.IP{{10, 0, 0, 1}, ip("fd00::1"), {10, 0, 0, 7}}, list.IpAddresses); diff != "" || len(list.IpAddresses[0]) != 4 {
		t.Errorf("addresses, IPv4 in 4 bytes:\n%s", diff)
	}
	var capacity srpctest.Capacity
	if err := c.Call("Hypervisor.GetCapacity", struct{}{}, &capacity); err != nil || capacity.NumCPUs != 3 {
		t.Errorf("empty request: %+v, %v", capacity, err)
	}
}

func TestJSONCall(t *testing.T) {
	t.Parallel()
	c := serve(t, answering(), nil).dial(srpctest.SecureJSON, "alice")
	var reply map[string]any
	if err := c.Call("Hypervisor.GetVmInfo", map[string]any{"IpAddress": "10.0.0.1"}, &reply); err != nil {
		t.Fatal(err)
	}
	info, _ := reply["VmInfo"].(map[string]any)
	for key, want := range map[string]any{
		"State": "stopped", "ConsoleType": "vnc", "CreatedOn": "2026-01-02T03:04:05.000000006Z", "ChangedStateOn": "0001-01-01T00:00:00Z", "CpuPriority": -3.0,
		"Uuid": nil, "OwnerUsers": nil,
	} {
		if diff := cmp.Diff(want, info[key]); diff != "" {
			t.Errorf("%s:\n%s", key, diff)
		}
	}
	if err := c.Call("Hypervisor.GetVmInfo", map[string]any{"IpAddress": 12}, nil); err == nil || !strings.Contains(err.Error(), "cannot unmarshal number") {
		t.Errorf("undecodable: %v", err)
	}
	if err := c.Call("Hypervisor.GetVmInfo", map[string]any{"IpAddress": "10.0.0.9"}, &reply); err != nil || reply["Error"] != "no VM with IP address: 10.0.0.9 found" {
		t.Errorf("after it: %v, %v", reply, err)
	}
}

// TestErrorsReachTheCaller: in the reply where it has a place for them, in the status line otherwise; the connection stays usable.
func TestErrorsReachTheCaller(t *testing.T) {
	t.Parallel()
	c := serve(t, answering(), nil).dial(srpctest.SecureGob, "alice")
	var reply srpctest.GetVmInfoReply
	if err := c.Call("Hypervisor.GetVmInfo", srpctest.VMRequest{IpAddress: ip("10.0.0.9")}, &reply); err != nil || reply.Error != "no VM with IP address: 10.0.0.9 found" {
		t.Errorf("handler's error: %q, %v", reply.Error, err)
	}
	reply.Error = ""
	if err := c.Call("Hypervisor.GetVmInfo", srpctest.VMRequest{IpAddress: net.IP{1, 2, 3}}, &reply); err != nil || !strings.Contains(reply.Error, "IpAddress: 3 bytes are no IP address") {
		t.Errorf("bad field: %q, %v", reply.Error, err)
	}
	if err := c.Call("Hypervisor.AcknowledgeVm", srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, &reply); err != nil || !strings.Contains(reply.Error, "not implemented") {
		t.Errorf("not built: %q, %v", reply.Error, err)
	}
	err := c.Call("Hypervisor.ListVMs", srpctest.ListRequest{IgnoreStateMask: 99}, nil)
	if refused, ok := errors.AsType[*srpctest.Refused](err); !ok || !refused.Accepted || refused.Text != "two lines" {
		t.Errorf("reply without Error: %v", err)
	}
	if err := c.Call("Hypervisor.ListVMs", srpctest.ErrorReply{Error: "no field in common"}, nil); err == nil || !strings.Contains(err.Error(), "gob:") {
		t.Errorf("undecodable: %v", err)
	}
	if err := c.Ping(); err != nil {
		t.Errorf("ping after all that: %v", err)
	}
}

func TestMethodLines(t *testing.T) {
	t.Parallel()
	s := serveOn(t, "127.0.0.2", answering(), func(o *srpcshim.Options) { o.Streams = nil }) // clients come from 127.0.0.1
	for _, path := range []string{srpctest.SecureGob, srpctest.SecureJSON} {
		c := s.dial(path, "alice")
		for line, want := range map[string]string{
			"nodots": "malformed Service.Method: nodots", "a.b.c": "malformed Service.Method: a.b.c", "NoSuch.Thing": "unknown service: NoSuch",
			"Hypervisor.NoSuch": "Hypervisor: unknown method: NoSuch", ".LocalUpgradeToUnix": "unknown service: ",
			"Hypervisor.SetDisabledState": "access to method denied", "Hypervisor.CreateVmAsync": "Hypervisor: unknown method: CreateVmAsync",
			"Hypervisor.CreateVm": "Hypervisor.CreateVm is not available over SRPC yet; call it over gRPC or REST",
			"\r":                  "",
		} {
			err := c.Start(line)
			if got := textOf(err); got != want {
				t.Errorf("%q: %q (%v), want %q", line, got, err, want)
			}
		}
		if _, err := io.WriteString(c, strings.Repeat("x", 5000)+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := textOf(c.Status(false)); got != "line is too long" {
			t.Errorf("endless line: %q", got)
		}
		if _, err := c.In.ReadByte(); err == nil {
			t.Error("the connection goes on after an endless line")
		}
	}
}

func textOf(err error) string {
	if refused, ok := errors.AsType[*srpctest.Refused](err); ok {
		return refused.Text
	}
	if err != nil {
		return "other error: " + err.Error()
	}
	return ""
}

// TestEmbeddedStruct sends a field that is flat in JSON and named after its type in gob.
func TestEmbeddedStruct(t *testing.T) {
	t.Parallel()
	seen := make(chan *hypervisorv1.ImportLocalVmRequest, 1)
	s := serve(t, &services{importing: func(_ context.Context, r *hypervisorv1.ImportLocalVmRequest) (*hypervisorv1.ImportLocalVmResponse, error) {
		seen <- r
		return &hypervisorv1.ImportLocalVmResponse{}, nil
	}}, nil)
	want := srpctest.VmInfo{Hostname: "h", State: 1, Address: srpctest.Address{IpAddress: ip("10.0.0.5")}}
	for path, request := range map[string]any{
		srpctest.SecureGob: srpctest.ImportRequest{VmInfo: want, VolumeFilenames: []string{"/x"}},
		srpctest.SecureJSON: map[string]any{
			"Hostname": "h", "State": "running", "Address": map[string]string{"IpAddress": "10.0.0.5"}, "VolumeFilenames": []string{"/x"},
		},
	} {
		var reply srpctest.ErrorReply
		if err := s.dial(path, "alice").Call("Hypervisor.ImportLocalVm", request, &reply); err != nil || reply.Error != "" {
			t.Fatal(err, reply.Error)
		}
		r := <-seen
		if i := r.GetVmInfo(); i.GetHostname() != "h" || i.GetState() != hypervisorv1.State_STATE_RUNNING || i.GetAddress().GetIpAddress() != "10.0.0.5" || r.GetVolumeFilenames()[0] != "/x" {
			t.Errorf("%s: %v", path, r)
		}
	}
}

func TestMethodPowersAreGivenUpOnRequest(t *testing.T) {
	t.Parallel()
	var who principal.Principal
	s := answering()
	list := s.list
	s.list = func(ctx context.Context, r *hypervisorv1.ListVMsRequest) (*hypervisorv1.ListVMsResponse, error) {
		who, _ = principal.From(ctx)
		return list(ctx, r)
	}
	srv := serve(t, s, nil)
	for path, powers := range map[string]int{srpctest.SecureGob: 1, srpctest.SecureGob + "?doNotUseMethodPowers=true": 0} {
		c := srv.dial(path, "boss", "*.*")
		if err := c.Call("Hypervisor.ListVMs", srpctest.ListRequest{Sort: true}, new(srpctest.ListVMsReply)); err != nil {
			t.Fatal(err)
		}
		if who.Name != "boss" || !who.Local || len(who.Powers) != powers || !cmp.Equal(who.Groups, []string{"team-a"}) {
			t.Errorf("%s: %+v", path, who)
		}
		if got := textOf(c.Start("Hypervisor.SetDisabledState")); (got == "access to method denied") != (powers == 0) {
			t.Errorf("%s: private method: %q", path, got)
		}
	}
}

func TestWithoutCertificate(t *testing.T) {
	t.Parallel()
	closed := serve(t, answering(), nil)
	for _, path := range []string{srpctest.PlainGob, srpctest.PlainJSON} {
		if _, err := closed.try(path, nil); err == nil || !strings.Contains(err.Error(), "405 Method Not Allowed") {
			t.Errorf("%s: %v", path, err)
		}
	}
	// With TLS 1.3 the client believes that the handshake went well; it learns better from the first answer.
	if c, err := closed.try(srpctest.SecureGob, srpctest.Shows()); err == nil && c.Ping() == nil {
		t.Error("served without a certificate")
	}
	stranger := srpctest.NewAuthority(t, "somebody else")
	if c, err := closed.try(srpctest.SecureGob, srpctest.Shows(stranger.Client("admin", nil, []string{"*.*"}))); err == nil && c.Ping() == nil {
		t.Error("served with a certificate of an unknown authority")
	}
	open := serve(t, answering(), func(o *srpcshim.Options) { o.OpenReads = true })
	for _, path := range []string{srpctest.PlainGob, srpctest.SecureGob} {
		c, err := open.try(path, srpctest.Shows())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Call("Hypervisor.ListVMs", srpctest.ListRequest{Sort: true}, new(srpctest.ListVMsReply)); err != nil {
			t.Errorf("%s: open read: %v", path, err)
		}
		if got := textOf(c.Start("Hypervisor.StopVm")); got != "access to method denied" {
			t.Errorf("%s: StopVm: %q", path, got)
		}
	}
}

func TestCheckFindsMissingCode(t *testing.T) {
	t.Parallel()
	mux := srpcshim.NewMux(srpcshim.Options{Log: discard(), TLS: &tls.Config{MinVersion: tls.VersionTLS12}})
	hypervisorv1.RegisterHostServiceServer(mux, hypervisorv1.UnimplementedHostServiceServer{})
	mux.RegisterService(&grpc.ServiceDesc{ServiceName: "made.Up"}, nil)
	err := mux.Check()
	for _, want := range []string{"/hyperplane.hypervisor.v1.HostService/GetCapacity is a request/reply method without generated code", "service made.Up is not in the schema"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
