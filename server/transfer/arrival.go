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
	err = a.from.fetch(ctx, i, f, a.from.longest(v), func(n uint64) { came += n })
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
	volumes, err := a.measure(ctx)
	if err != nil {
		return err
	}
	_, err = a.Operations.Change(ctx, a.info.GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Volumes, r.VolumeLocations = nil, nil
		for i, v := range volumes {
			r.VmInfo.Volumes = append(r.VmInfo.Volumes, v)
			r.VolumeLocations = append(r.VolumeLocations, &hypervisorv1.LocalVolume{DirectoryToCleanup: a.dir, Filename: a.file(i)})
		}
		return nil
	})
	return err
}

// measure returns the volumes as they are here. Files that are not what the source says they are, or that need other files, are refused: nobody but the source
// has looked into them.
func (a *arrival) measure(ctx context.Context) (volumes []*hypervisorv1.Volume, err error) {
	for i, v := range a.from.info.GetVolumes() {
		v = proto.CloneOf(v)
		v.Snapshots = nil // they stay where they are
		size, err := a.Files.Size(ctx, a.file(i), v.GetFormat())
		if err != nil {
			return nil, fault.Wrap(err, "volume %d", i)
		}
		if v.GetVirtualSize() == 0 {
			v.VirtualSize = size
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
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
	for i, v := range info.GetVolumes() {
		if largest(v) > maxVolumeBytes {
			return fault.New(fault.DataLoss, "vm %s: can not %s: the source says that volume %d has %d bytes", vm.Name(info), action, i, v.GetSize())
		}
	}
	if info.GetUuid() == "" && info.GetVirtualiserImageName() != "" {
		return fault.New(fault.FailedPrecondition, "vm %s: can not %s: it runs with the virtualiser of the image %s (virtualiser_image_name), which does not come along",
			vm.Name(info), action, info.GetVirtualiserImageName())
	}
	return nil
}

// maxVolumeBytes bounds what a source may say of a volume.
const maxVolumeBytes = 1 << 50

// largest is how long a volume's file may be: a raw one is the disk, any other one has tables too.
func largest(v *hypervisorv1.Volume) uint64 {
	size := max(v.GetSize(), v.GetVirtualSize())
	if v.GetFormat() == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
		return min(size, maxVolumeBytes)*2 + 64<<20
	}
	return size
}

// longest bounds a volume's file. Of a Hyperplane's only that there are such files: some are longer than their VM says, and all of it must come along.
func (src *source) longest(v *hypervisorv1.Volume) uint64 {
	if src.foreign() {
		return largest(v)
	}
	return 2 * maxVolumeBytes
}

// checkHere says what this host would not take from a caller who creates a VM either. What hosts set is not looked at.
func checkHere(info *hypervisorv1.VmInfo) error {
	info = proto.CloneOf(info)
	info.Uuid, info.State, info.StateReason, info.Uncommitted = "", hypervisorv1.State_STATE_UNSPECIFIED, "", false
	info.CreatedOn, info.ChangedStateOn, info.IdentityName, info.IdentityExpires = nil, nil, "", nil
	return vm.CheckNew(info)
}
