package vmvolume

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// GetVmVolumeStorageConfiguration implements VolumeService.
func (s *Service) GetVmVolumeStorageConfiguration(
	_ context.Context, req *hypervisorv1.GetVmVolumeStorageConfigurationRequest,
) (*hypervisorv1.GetVmVolumeStorageConfigurationResponse, error) {
	record, err := s.VMs.Get(req.GetVm())
	if err != nil {
		return nil, err
	}
	res := new(hypervisorv1.GetVmVolumeStorageConfigurationResponse)
	devices := make([]uint64, len(s.Directories))
	for i, dir := range s.Directories {
		info, device, err := storage(dir)
		if err != nil {
			return nil, err
		}
		devices[i] = device
		res.StorageInfos = append(res.StorageInfos, info)
	}
	for i, p := range record.GetVolumeLocations() {
		found, err := s.indexOf(p.GetFilename(), devices)
		if err != nil {
			return nil, fault.Wrap(err, "vm %q: volume %d", req.GetVm(), i)
		}
		res.VolumeStorageIndices = append(res.VolumeStorageIndices, found)
	}
	return res, nil
}

// storage describes the file system of a folder, and returns its device.
func storage(dir string) (*hypervisorv1.StorageInfo, uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return nil, 0, fault.Wrap(err, "volume directory %s", dir)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, 0, fault.Wrap(err, "volume directory %s", dir)
	}
	block := uint64(fs.Frsize)
	return &hypervisorv1.StorageInfo{
		AvailableBytes: fs.Bavail * block, FreeBytes: fs.Bfree * block, SizeBytes: fs.Blocks * block,
		// What root may use but others may not is not usable.
		UsableBytes: (fs.Blocks - fs.Bfree + fs.Bavail) * block,
	}, st.Dev, nil
}

// indexOf returns the storage device of a file: the directory it lies in, or else the first one on its device.
func (s *Service) indexOf(file string, devices []uint64) (uint32, error) {
	for i, dir := range s.Directories {
		if within(dir, file) {
			return uint32(i), nil
		}
	}
	return deviceOf(file, devices)
}

func within(dir, file string) bool {
	return strings.HasPrefix(file, filepath.Clean(dir)+string(os.PathSeparator))
}

// deviceOf returns the index of the device on which a file lies.
func deviceOf(file string, devices []uint64) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, fault.Wrap(err, "%s", file)
	}
	for i, d := range devices {
		if d == st.Dev {
			return uint32(i), nil
		}
	}
	return 0, fault.New(fault.NotFound, "%s lies on none of the storage devices", file)
}
