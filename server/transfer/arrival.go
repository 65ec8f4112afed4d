package transfer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/internal/units"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// arrival is a VM that comes from another host.
type arrival struct {
	*Service
	from *source
	info *hypervisorv1.VmInfo // as it is to be here
	dir  string
	tell func(progress string) error
}

// admit makes the VM known here, MIGRATING and uncommitted. release gives its lock back.
func (a *arrival) admit(ctx context.Context, caller principal.Caller, memory bool) (release func(), err error) {
	a.info.State, a.info.StateReason, a.info.Uncommitted = hypervisorv1.State_STATE_MIGRATING, "comes from "+a.from.address, true
	release, err = a.Operations.Admit(ctx, a.info, caller, memory)
	if err != nil {
		return nil, err
	}
	if a.dir, err = a.Operations.Directory(a.info.GetUuid()); err != nil {
		err = errors.Join(err, a.Operations.Discard(ctx, a.info.GetUuid()))
		release()
		return nil, err
	}
	return release, nil
}

// bring copies all volumes, or what has changed of them since they were copied.
func (a *arrival) bring(ctx context.Context, what string) error {
	for i := range a.from.info.GetVolumes() {
		if err := a.bringVolume(ctx, what, i); err != nil {
			return err
		}
	}
	return nil
}

func (a *arrival) bringVolume(ctx context.Context, what string, i int) (err error) {
	v := a.from.info.GetVolumes()[i]
	f, err := os.OpenFile(a.file(i), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fault.Wrap(err, "volume %d", i)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() == 0 && v.GetFormat() != hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
		// Blocks of zeros are then here before anything comes.
		if err := f.Truncate(int64(v.GetSize())); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
	}
	var came uint64
	err = a.from.fetch(ctx, i, f, func(n uint64) { came += n })
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fault.Wrap(err, "volume %d", i)
	}
	return a.tell(fmt.Sprintf("%s: volume %d: %s came", what, i, units.Bytes(came)))
}

func (a *arrival) file(i int) string { return filepath.Join(a.dir, vm.VolumeFile(i)) }

// furnish brings the user data and writes down where the volumes lie.
func (a *arrival) furnish(ctx context.Context) error {
	content, err := a.from.readUserData(ctx)
	if err != nil {
		return err
	}
	defer clear(content)
	if len(content) > 0 {
		if err := a.UserData.Put(a.info.GetUuid(), content); err != nil {
			return err
		}
	}
	if err := atomicfile.SyncDir(a.dir); err != nil {
		return err
	}
	_, err = a.Operations.Change(ctx, a.info.GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Volumes, r.VolumeLocations = nil, nil
		for i, v := range a.from.info.GetVolumes() {
			v = proto.CloneOf(v)
			v.Snapshots = nil // they stay where they are
			r.VmInfo.Volumes = append(r.VmInfo.Volumes, v)
			r.VolumeLocations = append(r.VolumeLocations, &hypervisorv1.LocalVolume{DirectoryToCleanup: a.dir, Filename: a.file(i)})
		}
		return nil
	})
	return err
}

// checkSource refuses VMs that can not be brought here whole.
func checkSource(info *hypervisorv1.VmInfo, action string) error {
	if err := vm.Require(info, action, hypervisorv1.State_STATE_STOPPED, hypervisorv1.State_STATE_RUNNING); err != nil {
		return err
	}
	if info.GetUncommitted() {
		return fault.New(fault.FailedPrecondition, "vm %s: can not %s: it is not committed; call CommitImportedVm first", vm.Name(info), action)
	}
	if len(info.GetVolumes()) == 0 {
		return fault.New(fault.DataLoss, "vm %s: can not %s: the source says that it has no volumes", vm.Name(info), action)
	}
	return nil
}
