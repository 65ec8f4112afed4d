package client_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/client"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

// TestReplayStockSource makes the calls that a stock destination made, to a source that says what a stock one said: what is asked is the same, field by field,
// and what is understood is what the recorder understood.
func TestReplayStockSource(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"migrate-stopped-commit", "migrate-running-commit", "migrate-running-abandon", "copy-running", "copy-stopped", "copy-bad-token", "copy-by-non-owner-wrong-token",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines, calls := recorded(t, name)
			a := fakepeer.NewAuthority(t)
			source, addr := startSource(t, a, lines)
			c, err := client.Dial(t.Context(), client.Config{Address: addr, TLS: &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, call := range calls {
				if err := callAs(t, c, call); err != nil {
					t.Errorf("%s: %v", call.method, err)
				}
			}
			options := cmp.Options{cmp.AllowUnexported(said{}), cmp.FilterPath(func(p cmp.Path) bool {
				return p.Last().String() == ".replies" || p.Last().String() == ".blocks"
			}, cmp.Ignore()), cmp.Comparer(func(a, b net.IP) bool { return a.Equal(b) })}
			if diff := cmp.Diff(calls, source.heard, options); diff != "" {
				t.Errorf("what is asked (-stock +ours):\n%s", diff)
			}
		})
	}
}

// callAs makes a recorded call and compares what comes back with what the recorder saw.
func callAs(t *testing.T, c grpc.ClientConnInterface, call *said) error {
	t.Helper()
	first := call.requests[0]
	vm, token := first.IpAddress.String(), first.AccessToken
	vms, transfers := hypervisorv1.NewVmServiceClient(c), hypervisorv1.NewVmTransferServiceClient(c)
	var err error
	switch call.method {
	case "Hypervisor.GetVmInfo":
		return compareInfo(t, c, vm, call.replies[0])
	case "Hypervisor.GetVmVolume":
		return compareVolume(t, c, call)
	case "Hypervisor.GetVmUserData":
		return compareUserData(t, c, call)
	case "Hypervisor.StopVm":
		_, err = vms.StopVm(t.Context(), &hypervisorv1.StopVmRequest{Vm: vm, AccessToken: token})
	case "Hypervisor.StartVm":
		_, err = vms.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: vm, AccessToken: token})
	case "Hypervisor.DestroyVm":
		_, err = vms.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: vm, AccessToken: token})
	case "Hypervisor.PrepareVmForMigration":
		_, err = transfers.PrepareVmForMigration(t.Context(), &hypervisorv1.PrepareVmForMigrationRequest{Vm: vm, AccessToken: token, Enable: first.Enable})
	case "Hypervisor.DiscardVmAccessToken":
		_, err = hypervisorv1.NewIdentityServiceClient(c).DiscardVmAccessToken(t.Context(), &hypervisorv1.DiscardVmAccessTokenRequest{Vm: vm, AccessToken: token})
	default:
		return fmt.Errorf("%s is not known to this test", call.method)
	}
	if want := errorOf(call.replies[0]); status.Convert(err).Message() != want {
		return fmt.Errorf("%w, want %q", err, want)
	}
	return nil
}

func errorOf(p srpctest.Part) string {
	fields, _ := p.Value.(map[string]any)
	text, _ := fields["Error"].(string)
	return text
}

func compareInfo(t *testing.T, c grpc.ClientConnInterface, vm string, want srpctest.Part) error {
	t.Helper()
	got, err := info(t, c, vm)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(want.Value)
	if err != nil {
		return err
	}
	var w srpc.GetVmInfoResponse
	if err := json.Unmarshal(raw, &w); err != nil {
		return err
	}
	m, err := srpc.GetVmInfoResponseToProto(w)
	if diff := cmp.Diff(m.GetVmInfo(), got, protocmp.Transform()); diff != "" {
		return fmt.Errorf("(-recorded +understood) %s %w", diff, err)
	}
	return err
}

func compareVolume(t *testing.T, c grpc.ClientConnInterface, call *said) error {
	t.Helper()
	first, have := call.requests[0], call.requests[1]
	_, came, err := fetch(t, c, &hypervisorv1.GetVmVolumeRequest{
		Vm: first.IpAddress.String(), VolumeIndex: uint32(first.VolumeIndex), AccessToken: first.AccessToken, GetExtraFiles: first.GetExtraFiles,
		IgnoreExtraFiles: first.IgnoreExtraFiles, BlockOrder: uint32(have.BlockOrder),
	}, make([]byte, have.NumBlocks<<have.BlockOrder))
	want := 0
	for _, p := range call.replies[1:] {
		fields, _ := p.Value.(map[string]any)
		size, _ := fields["Size"].(float64)
		want += int(size)
	}
	if err == nil && came != want {
		err = fmt.Errorf("%d bytes came, want %d", came, want)
	}
	return err
}

func compareUserData(t *testing.T, c grpc.ClientConnInterface, call *said) error {
	t.Helper()
	first := call.requests[0]
	length, data, err := userData(t, c, &hypervisorv1.GetVmUserDataRequest{Vm: first.IpAddress.String(), AccessToken: first.AccessToken})
	fields, _ := call.replies[0].Value.(map[string]any)
	if want, _ := fields["Length"].(float64); err == nil && (length != uint64(want) || len(data) != int(want)) {
		err = fmt.Errorf("%d bytes came for a length of %d, want %v", len(data), length, want)
	}
	return err
}
