package server_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// sendParts creates a VM from messages and returns it, or the error.
func sendParts(t *testing.T, s *servertest.Server, messages ...*hypervisorv1.CreateVmRequest) (*hypervisorv1.VmInfo, error) {
	t.Helper()
	stream, err := hypervisorv1.NewVmServiceClient(s.DialSocket()).CreateVm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil || m.GetFinal() {
			return m.GetVmInfo(), err
		}
	}
}

func specPart(s *hypervisorv1.CreateVmSpec) *hypervisorv1.CreateVmRequest {
	return &hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: s}}
}

func imagePart(b []byte) *hypervisorv1.CreateVmRequest {
	return &hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_ImageData{ImageData: b}}
}

func userDataPart(b string) *hypervisorv1.CreateVmRequest {
	return &hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_UserData{UserData: []byte(b)}}
}

func secondaryPart(b []byte) *hypervisorv1.CreateVmRequest {
	return &hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_SecondaryVolumeData{SecondaryVolumeData: b}}
}

// TestAllPartsArrive creates a VM from an image, user data and the contents of two secondary volumes, on two storage devices.
func TestAllPartsArrive(t *testing.T) {
	t.Parallel()
	second := t.TempDir()
	s := servertest.Start(t, func(c *config.Config) { c.MoreVolumeDirs = []string{second} })
	root, one := content(1<<20, 1), content(64<<10, 2)
	two := append([]byte("QFI\xfb looks like a qcow2 image and is none"), make([]byte, 4096-41)...)[:4096]
	spec := small()
	spec.ImageDataSize, spec.UserDataSize, spec.SecondaryVolumesData = uint64(len(root)), 5, true
	spec.SecondaryVolumes = []*hypervisorv1.Volume{{Size: uint64(len(one))}, {Size: uint64(len(two))}}
	spec.StorageIndices = []uint32{0, 1, 0}
	vm, err := sendParts(t, s, specPart(spec), imagePart(root[:1000]), imagePart(root[1000:]), userDataPart("he"), userDataPart("llo"),
		secondaryPart(one), secondaryPart(two))
	if err != nil {
		t.Fatal(err)
	}
	first := filepath.Join(s.Config.StateDir, "volumes")
	for file, want := range map[string][]byte{
		filepath.Join(first, vm.GetUuid(), "root"):                root,
		filepath.Join(second, vm.GetUuid(), "secondary-volume.0"): one,
		filepath.Join(first, vm.GetUuid(), "secondary-volume.1"):  two,
		filepath.Join(first, vm.GetUuid(), "user-data.raw"):       []byte("hello"),
	} {
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, want %d, or others: %v", file, len(got), len(want), err)
		}
	}
	vms := hypervisorv1.NewVmServiceClient(s.DialSocket())
	if _, err := vms.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: vm.GetUuid()}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(second); err != nil || len(left) > 0 {
		t.Errorf("left on the second device: %v %v", left, err)
	}
}

func TestPartsInDisorderLeaveNothing(t *testing.T) {
	t.Parallel()
	image := make([]byte, 4096)
	for name, c := range map[string]struct {
		messages []*hypervisorv1.CreateVmRequest
		code     codes.Code
		want     string
	}{
		"user data first":      {[]*hypervisorv1.CreateVmRequest{userDataPart("hello"), imagePart(image)}, codes.InvalidArgument, "user_data: came where image_data"},
		"user data missing":    {[]*hypervisorv1.CreateVmRequest{imagePart(image), secondaryPart(image)}, codes.InvalidArgument, "secondary_volume_data: came where"},
		"user data cut short":  {[]*hypervisorv1.CreateVmRequest{imagePart(image), userDataPart("hel")}, codes.DataLoss, "user_data: ended after 3 of 5"},
		"second volume short":  {[]*hypervisorv1.CreateVmRequest{imagePart(image), userDataPart("hello"), secondaryPart(image[:99])}, codes.DataLoss, "99 of 4096"},
		"second volume longer": {[]*hypervisorv1.CreateVmRequest{imagePart(image), userDataPart("hello"), secondaryPart(append(image, 1))}, codes.InvalidArgument, "longer than announced"},
		"two specs":            {[]*hypervisorv1.CreateVmRequest{specPart(small())}, codes.InvalidArgument, "first message only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, nil)
			spec := small()
			spec.ImageDataSize, spec.UserDataSize, spec.SecondaryVolumesData = uint64(len(image)), 5, true
			spec.SecondaryVolumes = []*hypervisorv1.Volume{{Size: 4096}}
			_, err := sendParts(t, s, append([]*hypervisorv1.CreateVmRequest{specPart(spec)}, c.messages...)...)
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %v and %q", err, c.code, c.want)
			}
			nothingLeft(t, s)
		})
	}
}

// TestNoWaitForALease: the virtualiser's DHCP server tells nobody what it does.
func TestNoWaitForALease(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	spec := small()
	spec.DoNotStart, spec.MinimumFreeBytes, spec.DhcpTimeout = false, 4096, durationpb.New(1e9)
	if _, err := create(t, s, spec, nil); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
	nothingLeft(t, s)
}
