package vm

import (
	"regexp"
	"slices"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Limits of what a VM may be. They keep one VM from making the state or the host's answers unusable.
const (
	maxTags       = 1024
	maxTagBytes   = 64 << 10
	maxVolumes    = 24
	maxCPUs       = 1024
	minMemoryMiB  = 16
	maxMemoryMiB  = 1 << 26 // 64 TiB
	maxVolumeSize = 1 << 50
)

// hostnameForm is what Dominator's hypervisor accepts: labels of letters, digits and -, joined by dots.
var hostnameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

func checkSpec(spec *hypervisorv1.CreateVmSpec) error {
	if err := checkInfo(spec.GetVmInfo()); err != nil {
		return err
	}
	if err := checkVolumes(spec); err != nil {
		return err
	}
	if spec.GetRoundupPower() > 40 {
		return fault.New(fault.InvalidArgument, "roundup_power: %d is more than 40", spec.GetRoundupPower())
	}
	if spec.GetMinimumFreeBytes() > maxVolumeSize {
		return fault.New(fault.InvalidArgument, "minimum_free_bytes: %d is more than %d", spec.GetMinimumFreeBytes(), uint64(maxVolumeSize))
	}
	return checkBuilt(spec)
}

// checkInfo checks what a request says of a VM.
func checkInfo(info *hypervisorv1.VmInfo) error {
	if info == nil {
		return fault.New(fault.InvalidArgument, "vm_info: is missing")
	}
	if err := checkHostname("vm_info.hostname", info.GetHostname()); err != nil {
		return err
	}
	if info.GetMemoryInMib() == 0 {
		return fault.New(fault.InvalidArgument, "vm_info.memory_in_mib: is missing")
	}
	if info.GetMilliCpus() == 0 && info.GetVirtualCpus() == 0 {
		return fault.New(fault.InvalidArgument, "vm_info.milli_cpus: is missing; give it or virtual_cpus")
	}
	if err := checkSizes(info); err != nil {
		return err
	}
	if err := checkTags(info.GetTags()); err != nil {
		return err
	}
	return checkSetByHost(info)
}

func checkSizes(info *hypervisorv1.VmInfo) error {
	if m := info.GetMemoryInMib(); m < minMemoryMiB || m > maxMemoryMiB {
		return fault.New(fault.InvalidArgument, "memory_in_mib: %d is not between %d and %d", m, minMemoryMiB, maxMemoryMiB)
	}
	if n := virtualCPUs(info); n > maxCPUs {
		return fault.New(fault.InvalidArgument, "virtual_cpus: %d is more than %d", n, maxCPUs)
	}
	return nil
}

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return fault.New(fault.InvalidArgument, "tags: %d tags are more than %d", len(tags), maxTags)
	}
	total := 0
	for k, v := range tags {
		if k == "" {
			return fault.New(fault.InvalidArgument, "tags: a key is empty")
		}
		total += len(k) + len(v)
	}
	if total > maxTagBytes {
		return fault.New(fault.InvalidArgument, "tags: %d bytes are more than %d", total, maxTagBytes)
	}
	return nil
}

// given is a field that the request holds.
type given struct {
	field string
	set   bool
}

// checkSetByHost refuses fields that only the host may set.
func checkSetByHost(info *hypervisorv1.VmInfo) error {
	for _, f := range []given{
		{"uuid", info.GetUuid() != ""},
		// STARTING is what the legacy protocol says when nothing is said.
		{"state", info.GetState() != hypervisorv1.State_STATE_UNSPECIFIED && info.GetState() != hypervisorv1.State_STATE_STARTING},
		{"state_reason", info.GetStateReason() != ""},
		{"created_on", info.GetCreatedOn() != nil},
		{"changed_state_on", info.GetChangedStateOn() != nil},
		{"identity_name", info.GetIdentityName() != ""},
		{"identity_expires", info.GetIdentityExpires() != nil},
		{"uncommitted", info.GetUncommitted()},
	} {
		if f.set {
			return fault.New(fault.InvalidArgument, "vm_info.%s: is set by the host; leave it empty", f.field)
		}
	}
	return nil
}

// checkBuilt refuses, by name, what this release can not do yet: nothing that is asked for is silently left out.
func checkBuilt(spec *hypervisorv1.CreateVmSpec) error {
	info := spec.GetVmInfo()
	for _, f := range []given{
		{"vm_info.extra_kernel_options", info.GetExtraKernelOptions() != ""},
		{"vm_info.root_file_system_label", info.GetRootFileSystemLabel() != ""},
		{"vm_info.virtualiser_image_name", info.GetVirtualiserImageName() != ""},
	} {
		if f.set {
			return fault.New(fault.Unimplemented, "%s: is not available on this host yet; leave it empty", f.field)
		}
	}
	return nil
}

// checkVolumes checks what the request says of volumes and of what follows for them.
func checkVolumes(spec *hypervisorv1.CreateVmSpec) error {
	n := 1 + len(spec.GetSecondaryVolumes())
	if n > maxVolumes {
		return fault.New(fault.InvalidArgument, "secondary_volumes: %d volumes are more than %d", n, maxVolumes)
	}
	for i, v := range spec.GetSecondaryVolumes() {
		if v.GetSize() == 0 || v.GetSize() > maxVolumeSize {
			return fault.New(fault.InvalidArgument, "secondary_volumes[%d].size: %d is not between 1 and %d bytes", i, v.GetSize(), uint64(maxVolumeSize))
		}
	}
	switch init := len(spec.GetSecondaryVolumesInit()); {
	case init > n-1:
		return fault.New(fault.InvalidArgument, "secondary_volumes_init: %d for %d secondary_volumes", init, n-1)
	case spec.GetSecondaryVolumesData() && makesFilesystems(spec):
		return fault.New(fault.InvalidArgument, "secondary_volumes_init: would overwrite the contents that secondary_volumes_data brings; leave one of them out")
	case len(spec.GetStorageIndices()) > n:
		return fault.New(fault.InvalidArgument, "storage_indices: %d for %d volumes", len(spec.GetStorageIndices()), n)
	case spec.GetUserDataSize() > maxUserData:
		return fault.New(fault.InvalidArgument, "user_data_size: %d bytes of user data; %d is the most a VM may have", spec.GetUserDataSize(), maxUserData)
	case spec.GetImageDataSize() > maxVolumeSize:
		return fault.New(fault.InvalidArgument, "image_data_size: %d is more than %d", spec.GetImageDataSize(), uint64(maxVolumeSize))
	case spec.GetImageTimeout().AsDuration() < 0:
		return fault.New(fault.InvalidArgument, "image_timeout: %s is less than nothing", spec.GetImageTimeout().AsDuration())
	default:
		return nil
	}
}

func makesFilesystems(spec *hypervisorv1.CreateVmSpec) bool {
	return slices.ContainsFunc(spec.GetSecondaryVolumesInit(), func(i *hypervisorv1.VolumeInitialisationInfo) bool { return i.GetLabel() != "" })
}

// checkAsync refuses what only CreateVm's stream can carry.
func checkAsync(spec *hypervisorv1.CreateVmSpec) error {
	for _, f := range []given{
		{"image_data_size", spec.GetImageDataSize() > 0},
		{"user_data_size", spec.GetUserDataSize() > 0},
		{"secondary_volumes_data", spec.GetSecondaryVolumesData()},
	} {
		if f.set {
			return fault.New(fault.InvalidArgument, "%s: nothing can follow a CreateVmAsync; use CreateVm", f.field)
		}
	}
	return nil
}

// fitHostname makes a host name of a text, as far as it can.
func fitHostname(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.':
			b.WriteRune(r)
		default:
			b.WriteByte('-')
		}
	}
	labels := strings.FieldsFunc(b.String(), func(r rune) bool { return r == '.' })
	for i, l := range labels {
		labels[i] = strings.Trim(l[:min(len(l), 63)], "-")
	}
	return strings.Trim(strings.ReplaceAll(strings.Join(labels, "."), "..", "."), ".-")
}
