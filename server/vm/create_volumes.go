package vm

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strconv"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// volumes makes the root volume and the others, with what the request puts into them.
func (c *creation) volumes(ctx context.Context, info *hypervisorv1.VmInfo) ([]*hypervisorv1.Volume, []*hypervisorv1.LocalVolume, error) {
	var volumes []*hypervisorv1.Volume
	var places []*hypervisorv1.LocalVolume
	for i, w := range c.wanted(info) {
		dir, err := c.Volumes.VolumeDirectory(info.GetUuid(), c.storageIndex(i))
		if err != nil {
			return nil, nil, fault.Wrap(err, "volume %d", i)
		}
		if i == 1 && c.spec.GetSecondaryVolumesData() {
			if err := c.say("creating secondary volumes"); err != nil {
				return nil, nil, err
			}
		}
		file := filepath.Join(dir, VolumeFile(i))
		size, err := c.volume(ctx, i, w, file)
		if err == nil {
			err = c.prepare(ctx, i, w, file)
		}
		if err != nil {
			return nil, nil, fault.Wrap(err, "volume %d", i)
		}
		if i == 0 && c.spec.GetUserDataSize() > 0 {
			if c.userData, err = c.upload.readUserData(c.spec.GetUserDataSize()); err != nil {
				return nil, nil, err
			}
		}
		volumes = append(volumes, &hypervisorv1.Volume{Format: w.GetFormat(), Interface: w.GetInterface(), Size: size, VirtualSize: size})
		places = append(places, &hypervisorv1.LocalVolume{DirectoryToCleanup: dir, Filename: file})
	}
	return volumes, places, nil
}

// wanted is what volumes the VM is to have.
func (c *creation) wanted(info *hypervisorv1.VmInfo) []*hypervisorv1.Volume {
	wanted := info.GetVolumes()
	if len(wanted) == 0 {
		wanted = []*hypervisorv1.Volume{{}}
	}
	return append(slices.Clone(wanted[:max(1, len(c.adopt))]), c.spec.GetSecondaryVolumes()...)
}

// storageIndex is the storage device of a volume.
func (c *creation) storageIndex(i int) int {
	n := c.Volumes.Storages()
	switch indices := c.spec.GetStorageIndices(); {
	case i < len(indices):
		return int(indices[i])
	case c.spec.GetVmInfo().GetSpreadVolumes():
		return i % n
	default:
		return 0
	}
}

// VolumeFile is what the file of a new volume is called in its VM's folder.
func VolumeFile(i int) string {
	if i == 0 {
		return "root"
	}
	return "secondary-volume." + strconv.Itoa(i-1)
}

// volume makes one volume and returns its size.
func (c *creation) volume(ctx context.Context, i int, w *hypervisorv1.Volume, file string) (uint64, error) {
	v := VolumeSpec{File: file, Format: w.GetFormat(), Size: w.GetSize()}
	switch {
	case i < len(c.adopt):
		return c.Volumes.Adopt(ctx, c.adopt[i], v)
	case i == 0:
		return c.root(ctx, v)
	case c.spec.GetSecondaryVolumesData():
		v.Raw = true
		return c.Volumes.FromReader(ctx, io.LimitReader(c.upload.reader(secondaryVolumeData), int64(v.Size)), v.Size, v)
	default:
		return c.Volumes.Empty(ctx, v)
	}
}

// root makes the root volume.
func (c *creation) root(ctx context.Context, v VolumeSpec) (uint64, error) {
	info := c.spec.GetVmInfo()
	v.MinimumFree, v.RoundupPower = c.spec.GetMinimumFreeBytes(), c.spec.GetRoundupPower()
	v.Progress = func(done, total uint64) {
		_ = c.tell(&hypervisorv1.CreateVmResponse{ProgressMessage: "getting image", BytesDone: done, BytesTotal: total}) // a client that has gone ends ctx
	}
	if limit := c.spec.GetImageTimeout().AsDuration(); limit > 0 {
		timed, cancel := context.WithTimeoutCause(ctx, limit, fault.New(fault.DeadlineExceeded, "image: did not arrive within image_timeout, %s", limit))
		defer cancel()
		ctx = timed
	}
	size, err := c.rootFrom(ctx, info, v)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return size, err
}

func (c *creation) rootFrom(ctx context.Context, info *hypervisorv1.VmInfo, v VolumeSpec) (uint64, error) {
	switch size := c.spec.GetImageDataSize(); {
	case info.GetImageName() != "":
		if err := c.say("unpacking image: " + info.GetImageName()); err != nil {
			return 0, err
		}
		return c.Volumes.FromImage(ctx, info.GetImageName(), v)
	case size > 0:
		return c.Volumes.FromReader(ctx, io.LimitReader(c.upload.reader(imageData), int64(size)), size, v)
	case info.GetImageUrl() != "":
		return c.Volumes.FromURL(ctx, info.GetImageUrl(), v)
	case v.MinimumFree > 0:
		return c.Volumes.Empty(ctx, v)
	default:
		return 0, fault.New(fault.InvalidArgument,
			"no image: give vm_info.image_name, vm_info.image_url, image_data_size with image_data, or minimum_free_bytes for an empty volume")
	}
}

// prepare changes what is inside a volume that has just been made.
func (c *creation) prepare(ctx context.Context, i int, w *hypervisorv1.Volume, file string) error {
	d := hypervisor.Disk{File: file, Format: diskFormat(w.GetFormat())}
	if i == 0 {
		if len(c.spec.GetOverlayDirectories())+len(c.spec.GetOverlayFiles()) == 0 {
			return nil
		}
		if err := c.say("writing overlay files"); err != nil {
			return err
		}
		return fault.Wrap(c.Guests.Overlay(ctx, d, c.spec.GetOverlayDirectories(), c.spec.GetOverlayFiles()), "overlay_files, overlay_directories")
	}
	if i-1 >= len(c.spec.GetSecondaryVolumesInit()) || c.spec.GetSecondaryVolumesInit()[i-1].GetLabel() == "" {
		return nil
	}
	return fault.Wrap(c.Guests.MakeFilesystem(ctx, d, c.spec.GetSecondaryVolumesInit()[i-1]), "secondary_volumes_init[%d]", i-1)
}

// say tells the client what is done now.
func (c *creation) say(what string) error {
	return c.tell(&hypervisorv1.CreateVmResponse{ProgressMessage: what})
}
