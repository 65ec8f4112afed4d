package server_test

import (
	"path/filepath"
	"testing"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// upload puts a content into a new volume of 512 bytes of the pool.
func upload(t *testing.T, cc *grpc.ClientConn, volume, content string) error {
	t.Helper()
	stream, err := hypervisorv1.NewVirtualisationServiceClient(cc).UploadStorageVolume(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target := &hypervisorv1.UploadStorageVolumeTarget{Pool: "pool", Volume: volume, Create: true, SizeBytes: 512}
	for _, m := range []*hypervisorv1.UploadStorageVolumeRequest{
		{Part: &hypervisorv1.UploadStorageVolumeRequest_Target{Target: target}},
		{Part: &hypervisorv1.UploadStorageVolumeRequest_Data{Data: []byte(content)}},
	} {
		if err := stream.Send(m); err != nil {
			break // CloseAndRecv says why
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// TestHalfUploadedVolumes leaves a volume behind whose upload has failed and that could not be removed, as a daemon does that is killed: the next start removes
// it, and no other.
func TestHalfUploadedVolumes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	volumes := func() (names []string) {
		res, err := hypervisorv1.NewVirtualisationServiceClient(s.Dial(true)).ListStorageVolumes(t.Context(), &hypervisorv1.ListStorageVolumesRequest{Pool: "pool"})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range res.GetVolumes() {
			names = append(names, v.GetName())
		}
		return names
	}
	cc := s.Dial(true)
	create := &hypervisorv1.CreateStoragePoolRequest{Name: "pool", Path: filepath.Join(t.TempDir(), "pool")}
	if _, err := hypervisorv1.NewVirtualisationServiceClient(cc).CreateStoragePool(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	if err := upload(t, cc, "whole", "content"); err != nil {
		t.Fatal(err)
	}
	long := string(make([]byte, 1000))
	if err := upload(t, cc, "failed", long); err == nil {
		t.Error("1000 bytes in 512")
	}
	if all := volumes(); len(all) != 1 {
		t.Errorf("after a failure: %v", all)
	}
	s.Host.FailNext("DeleteVolume", fault.New(fault.Unavailable, "the connection is lost"))
	if err := upload(t, cc, "half", long); err == nil {
		t.Error("1000 bytes in 512")
	}
	if all := volumes(); len(all) != 2 {
		t.Errorf("the volume has gone already: %v", all)
	}
	s.Restart()
	until(t, func() bool { return len(volumes()) == 1 })
	if all := volumes(); len(all) != 1 || all[0] != "whole" {
		t.Errorf("after the next start: %v", all)
	}
}
