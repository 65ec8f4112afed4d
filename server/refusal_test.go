package server_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// operation is something that is done to a VM.
type operation struct {
	running bool // the state that the VM must be in
	do      func(ctx context.Context, s *servertest.Server, vm string) error
	// starts says that the VM is off when the operation fails half-way, because it was off while the operation worked.
	starts bool
}

func operations() map[string]operation {
	config := func(s *servertest.Server) hypervisorv1.VmConfigurationServiceClient {
		return hypervisorv1.NewVmConfigurationServiceClient(s.DialSocket())
	}
	volumes := func(s *servertest.Server) hypervisorv1.VolumeServiceClient {
		return hypervisorv1.NewVolumeServiceClient(s.DialSocket())
	}
	snapshots := func(s *servertest.Server) hypervisorv1.SnapshotServiceClient {
		return hypervisorv1.NewSnapshotServiceClient(s.DialSocket())
	}
	return map[string]operation{
		"StopVm": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := vmsOf(s).StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: vm})
			return err
		}, false},
		"StartVm": {false, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := vmsOf(s).StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: vm})
			return err
		}, true},
		"RebootVm": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := vmsOf(s).RebootVm(ctx, &hypervisorv1.RebootVmRequest{Vm: vm})
			return err
		}, false},
		"ChangeVmSize live": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := config(s).ChangeVmSize(ctx, &hypervisorv1.ChangeVmSizeRequest{Vm: vm, MilliCpus: 300})
			return err
		}, false},
		"ChangeVmSize": {false, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := config(s).ChangeVmSize(ctx, &hypervisorv1.ChangeVmSizeRequest{Vm: vm, MemoryInMib: 128, VirtualCpus: 2})
			return err
		}, false},
		"ChangeVmConsoleType": {false, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := config(s).ChangeVmConsoleType(ctx, &hypervisorv1.ChangeVmConsoleTypeRequest{Vm: vm, ConsoleType: hypervisorv1.ConsoleType_CONSOLE_TYPE_VNC})
			return err
		}, false},
		"ChangeVmMachineType": {false, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := config(s).ChangeVmMachineType(ctx, &hypervisorv1.ChangeVmMachineTypeRequest{Vm: vm, MachineType: hypervisorv1.MachineType_MACHINE_TYPE_PC})
			return err
		}, false},
		"ChangeVmHostname": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := config(s).ChangeVmHostname(ctx, &hypervisorv1.ChangeVmHostnameRequest{Vm: vm, Hostname: "renamed"})
			return err
		}, false},
		"AddVmVolumes": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := volumes(s).AddVmVolumes(ctx, &hypervisorv1.AddVmVolumesRequest{Vm: vm, VolumeSizes: []uint64{1 << 20, 1 << 20}})
			return err
		}, false},
		"DeleteVmVolume": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := volumes(s).DeleteVmVolume(ctx, &hypervisorv1.DeleteVmVolumeRequest{Vm: vm, VolumeIndex: 1})
			return err
		}, false},
		"ChangeVmVolumeSize": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := volumes(s).ChangeVmVolumeSize(ctx, &hypervisorv1.ChangeVmVolumeSizeRequest{Vm: vm, VolumeIndex: 1, VolumeSize: 8 << 20})
			return err
		}, false},
		"ChangeVmVolumeStorageIndex": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := volumes(s).ChangeVmVolumeStorageIndex(ctx, &hypervisorv1.ChangeVmVolumeStorageIndexRequest{Vm: vm, VolumeIndex: 1, StorageIndex: 1})
			return err
		}, false},
		"SnapshotVm": {true, func(ctx context.Context, s *servertest.Server, vm string) error {
			_, err := snapshots(s).SnapshotVm(ctx, &hypervisorv1.SnapshotVmRequest{Vm: vm, Name: "a", ForceIfNotStopped: true})
			return err
		}, false},
		"CreateVm": {false, func(ctx context.Context, s *servertest.Server, _ string) error {
			spec := small()
			spec.DoNotStart, spec.MinimumFreeBytes, spec.VmInfo.Hostname = false, 4096, "another"
			stream, err := vmsOf(s).CreateVm(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(specPart(spec)); err != nil {
				return err
			}
			for {
				if m, err := stream.Recv(); err != nil || m.GetFinal() {
					return err
				}
			}
		}, false},
	}
}

// refusable are the methods of the virtualiser that change something, or that many operations begin with.
func refusable() []fake.Method {
	return []fake.Method{
		fake.MethodHost, fake.MethodDefine, fake.MethodAdjust, fake.MethodStart, fake.MethodShutdown, fake.MethodKill, fake.MethodReboot, fake.MethodGet,
		fake.MethodEnsureNetwork, fake.MethodSetLeases, fake.MethodAttachDisk, fake.MethodDetachDisk, fake.MethodResizeDisk, fake.MethodMoveDisk,
		fake.MethodRedirectDisks, fake.MethodMergeDisks,
	}
}

// TestVirtualiserRefuses has the virtualiser refuse each of its calls in each operation: the error says why, and nothing has changed.
func TestVirtualiserRefuses(t *testing.T) {
	t.Parallel()
	for name, op := range operations() {
		for _, method := range refusable() {
			t.Run(name+"/"+string(method), func(t *testing.T) {
				t.Parallel()
				s := servertest.Start(t, func(c *config.Config) { c.MoreVolumeDirs = []string{filepath.Join(c.StateDir, "more-volumes")} })
				vm := refusedVM(t, s, op.running)
				before := look(t, s, vm)
				s.Host.FailNext(method, fault.New(fault.Unavailable, "the virtualiser is ill"))
				err := op.do(t.Context(), s, vm)
				if err == nil {
					return // it does not make this call, or does without it
				}
				if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "the virtualiser is ill") {
					t.Errorf("%v", err)
				}
				after := look(t, s, vm)
				if op.starts && after.info.GetState() == hypervisorv1.State_STATE_FAILED_TO_START {
					if !strings.Contains(after.info.GetStateReason(), "the virtualiser is ill") {
						t.Errorf("reason: %q", after.info.GetStateReason())
					}
					after.info.State, after.info.StateReason = before.info.GetState(), before.info.GetStateReason()
				}
				after.info.ChangedStateOn = before.info.GetChangedStateOn()
				if reason := after.info.GetStateReason(); after.info.GetState() == before.info.GetState() && strings.Contains(reason, "the virtualiser is ill") {
					after.info.StateReason = "" // it could not be stopped, and says so
				}
				if diff := cmp.Diff(before.info, after.info, protocmp.Transform()); diff != "" {
					t.Errorf("the VM has changed:\n%s", diff)
				}
				// What the guest writes during a snapshot stays in overlays until the virtualiser can merge them.
				unmerged := func(path string, _ int64) bool {
					return method == fake.MethodMergeDisks && strings.HasSuffix(path, ".redirect")
				}
				maps.DeleteFunc(after.files, unmerged)
				if diff := cmp.Diff(before.files, after.files); diff != "" {
					t.Errorf("its files have changed:\n%s", diff)
				}
				if err := op.do(t.Context(), s, vm); err != nil {
					t.Errorf("done again, now that the virtualiser is well: %v", err)
				}
				for path := range look(t, s, vm).files {
					if unmerged(path, 0) {
						t.Errorf("%s is left", path)
					}
				}
			})
		}
	}
}

func refusedVM(t *testing.T, s *servertest.Server, running bool) string {
	t.Helper()
	spec := small()
	spec.DoNotStart, spec.MinimumFreeBytes = !running, 4096
	spec.SecondaryVolumes = []*hypervisorv1.Volume{{Size: 1 << 20}}
	vm, err := create(t, s, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return vm.GetUuid()
}

// sight is what can be seen of a VM, and of all files of volumes.
type sight struct {
	info  *hypervisorv1.VmInfo
	files map[string]int64
}

func look(t *testing.T, s *servertest.Server, vm string) sight {
	t.Helper()
	_, info, err := state(t.Context(), s, vm)
	if err != nil {
		t.Fatal(err)
	}
	return sight{info, filesBelow(t, filepath.Join(s.Config.StateDir, "volumes"), filepath.Join(s.Config.StateDir, "more-volumes"))}
}

// filesBelow lists files with their sizes.
func filesBelow(t *testing.T, dirs ...string) map[string]int64 {
	t.Helper()
	files := make(map[string]int64)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}
			info, err := e.Info()
			files[path] = info.Size()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}
