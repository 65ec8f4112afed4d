package server_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// TestReplaceWithALeaseThatNobodySees refuses before the root volume is changed.
func TestReplaceWithALeaseThatNobodySees(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	cc := s.Dial(true)
	vms := hypervisorv1.NewVmServiceClient(cc)
	made, err := vms.CreateVmAsync(t.Context(), &hypervisorv1.CreateVmAsyncRequest{Spec: &hypervisorv1.CreateVmSpec{
		VmInfo: &hypervisorv1.VmInfo{MemoryInMib: 64, MilliCpus: 100}, MinimumFreeBytes: 1 << 20,
	}})
	if err != nil {
		t.Fatal(err)
	}
	vm := made.GetVmInfo().GetUuid()
	state := func() (hypervisorv1.State, uint64) {
		res, err := vms.GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: vm})
		if err != nil || len(res.GetVmInfo().GetVolumes()) == 0 {
			return 0, 0
		}
		return res.GetVmInfo().GetState(), res.GetVmInfo().GetVolumes()[0].GetSize()
	}
	until(t, func() bool { now, _ := state(); return now == hypervisorv1.State_STATE_RUNNING })
	_, before := state()
	image := make([]byte, 4096)
	source := &hypervisorv1.ImageSource{ImageDataSize: uint64(len(image)), DhcpTimeout: durationpb.New(time.Minute)}
	stream, err := hypervisorv1.NewImageServiceClient(cc).ReplaceVmImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&hypervisorv1.ReplaceVmImageRequest{Vm: vm, Source: source, ImageData: image, SkipBackup: true})
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
	if now, size := state(); now != hypervisorv1.State_STATE_RUNNING || size != before {
		t.Errorf("it is %v, with a root of %d bytes; before %d", now, size, before)
	}
}
