package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// smallDisk is the size of the file system for volumes, in bytes.
const smallDisk = 24 << 20

// onSmallDisk starts a server whose volumes and images lie on a file system that is soon full.
func onSmallDisk(t *testing.T) *servertest.Server {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, func(c *config.Config) {
		c.VolumeDir, c.ImageStoreDir = filepath.Join(dir, "volumes"), filepath.Join(dir, "images")
	})
	t.Cleanup(func() { // after the server has ended
		s.Stop()
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return s
}

// fills is an operation that needs more space than there is.
type fills func(ctx context.Context, s *servertest.Server, vm string) error

func operationsThatFill() map[string]fills {
	big := content(smallDisk, 5)
	return map[string]fills{
		"CreateVm": func(ctx context.Context, s *servertest.Server, _ string) error {
			spec := small()
			spec.ImageDataSize, spec.VmInfo.Hostname = uint64(len(big)), "another"
			stream, err := vmsOf(s).CreateVm(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(specPart(spec)); err != nil {
				return err
			}
			for piece := range slices.Chunk(big, 1<<20) {
				if stream.Send(imagePart(piece)) != nil {
					break
				}
			}
			for {
				if m, err := stream.Recv(); err != nil || m.GetFinal() {
					return err
				}
			}
		},
		"SnapshotVm": func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := hypervisorv1.NewSnapshotServiceClient(s.DialSocket()).SnapshotVm(ctx, &hypervisorv1.SnapshotVmRequest{Vm: vm, Name: "a"})
			return err
		},
		"UploadLocalImage": func(ctx context.Context, s *servertest.Server, _ string) error {
			stream, err := hypervisorv1.NewLocalImageServiceClient(s.DialSocket()).UploadLocalImage(ctx)
			if err != nil {
				return err
			}
			spec := &hypervisorv1.LocalImageSpec{Name: "big"}
			if err := stream.Send(&hypervisorv1.UploadLocalImageRequest{Part: &hypervisorv1.UploadLocalImageRequest_Spec{Spec: spec}}); err != nil {
				return err
			}
			for piece := range slices.Chunk(big, 1<<20) {
				if stream.Send(&hypervisorv1.UploadLocalImageRequest{Part: &hypervisorv1.UploadLocalImageRequest_Data{Data: piece}}) != nil {
					break
				}
			}
			_, err = stream.CloseAndRecv()
			return err
		},
		"ReplaceVmImage": func(ctx context.Context, s *servertest.Server, vm string) error {
			stream, err := hypervisorv1.NewImageServiceClient(s.DialSocket()).ReplaceVmImage(ctx)
			if err != nil {
				return err
			}
			first := &hypervisorv1.ReplaceVmImageRequest{Vm: vm, Source: &hypervisorv1.ImageSource{ImageDataSize: uint64(len(big))}}
			if err := stream.Send(first); err != nil {
				return err
			}
			for piece := range slices.Chunk(big, 1<<20) {
				if stream.Send(&hypervisorv1.ReplaceVmImageRequest{ImageData: piece}) != nil {
					break
				}
			}
			for {
				if m, err := stream.Recv(); err != nil || m.GetFinal() {
					return err
				}
			}
		},
		"ReplaceVmUserData": func(ctx context.Context, s *servertest.Server, vm string) error {
			stream, err := hypervisorv1.NewUserDataServiceClient(s.DialSocket()).ReplaceVmUserData(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&hypervisorv1.ReplaceVmUserDataRequest{Vm: vm, Size: 15 << 20}); err != nil {
				return err
			}
			for piece := range slices.Chunk(big[:15<<20], 1<<20) {
				if err := stream.Send(&hypervisorv1.ReplaceVmUserDataRequest{Data: piece}); err != nil && !errors.Is(err, io.EOF) {
					return err
				}
			}
			_, err = stream.CloseAndRecv()
			return err
		},
	}
}

// TestDiskIsFull has the disk fill up in each operation that writes much: the error says so, and nothing is left behind.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	for name, fill := range operationsThatFill() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := onSmallDisk(t)
			spec := small()
			spec.MinimumFreeBytes = 14 << 20
			info, err := create(t, s, spec, nil)
			if err != nil {
				t.Fatal(err)
			}
			volume, dense := filepath.Join(s.Config.VolumeDir, info.GetUuid(), "root"), bytes.Repeat([]byte("the guest's "), 14<<20/12+1)[:14<<20]
			if err := os.WriteFile(volume, dense, 0o600); err != nil {
				t.Fatal(err)
			}
			files := filesBelow(t, s.Config.VolumeDir, s.Config.ImageStoreDir)
			err = fill(t.Context(), s, info.GetUuid())
			if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "no space left") {
				t.Errorf("%v, want ResourceExhausted and the reason", err)
			}
			_, after, err := state(t.Context(), s, info.GetUuid())
			if diff := cmp.Diff(info, after, protocmp.Transform()); err != nil || diff != "" {
				t.Errorf("the VM has changed: %v\n%s", err, diff)
			}
			if diff := cmp.Diff(files, filesBelow(t, s.Config.VolumeDir, s.Config.ImageStoreDir)); diff != "" {
				t.Errorf("files have changed:\n%s", diff)
			}
			if root, err := os.ReadFile(volume); err != nil || !bytes.Equal(root, dense) {
				t.Errorf("the root volume has changed: %v", err)
			}
			if err := vmsList(t, s); err != nil {
				t.Error(err)
			}
		})
	}
}

// vmsList checks that there is one VM.
func vmsList(t *testing.T, s *servertest.Server) error {
	t.Helper()
	res, err := vmsOf(s).ListVMs(t.Context(), &hypervisorv1.ListVMsRequest{})
	if err == nil && len(res.GetIpAddresses()) != 1 {
		err = errors.New("VMs: " + strings.Join(res.GetIpAddresses(), ", "))
	}
	return err
}

// TestArrivalOnAFullDisk: a VM that does not fit stays where it is.
func TestArrivalOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	here, there := servertest.StartPairWith(t, func(c *config.Config) { c.VolumeDir = filepath.Join(dir, "volumes") }, "Hypervisor.PrepareVmForMigration")
	t.Cleanup(func() {
		there.Stop()
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	p := &pair{t: t, here: here, there: there}
	vm, token := p.vm(true)
	before := p.files(vm)
	if err := p.migrate(vm, token, true, func(string) {}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
	if st, _, err := state(t.Context(), here, vm.GetUuid()); err != nil || st != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("the source: %v %v", st, err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(p.files(vm)))); diff != "" {
		t.Error(diff)
	}
	if left := filesBelow(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
