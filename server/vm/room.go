package vm

import "github.com/hyperplane-project/hyperplane/server/hypervisor"

// How far VMs can grow while they are alive. Room is not free for a guest, so small ones get none.
const (
	// roomFactor is how many times its size a VM can grow to, as far as the host has that.
	roomFactor = 4
	// cpuRoomFrom is the memory from which a VM gets room for processors: Linux sets some hundred KiB aside for each that may come.
	cpuRoomFrom = 512 << 20
	// memoryRoomFrom is the memory from which a VM gets room for memory: Linux sets 64 MiB aside for devices as soon as memory may come above
	// 4 GiB, and a VM of this size has memory there anyway.
	memoryRoomFrom = 4 << 30
	// maxMemoryRoom leaves space below the 1 TiB that emulated processors can address.
	maxMemoryRoom = 512 << 30
)

// room adds to a machine what it can grow to. QEMU adds processors on amd64 only.
func room(spec hypervisor.Spec, host hypervisor.Host) hypervisor.Spec {
	if spec.Arch == hypervisor.ArchARM64 || (spec.Arch == hypervisor.ArchAuto && host.Arch != hypervisor.ArchAMD64) {
		return spec
	}
	if spec.MemoryBytes >= cpuRoomFrom {
		spec.MaxCPUs = max(spec.CPUs, min(host.CPUs, roomFactor*spec.CPUs))
	}
	if spec.MemoryBytes >= memoryRoomFrom {
		whole := min(host.MemoryBytes, roomFactor*spec.MemoryBytes, maxMemoryRoom) >> 20 << 20
		spec.MaxMemoryBytes = max(spec.MemoryBytes, whole)
	}
	return spec
}
