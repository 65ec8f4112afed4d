package srpctest

import (
	"net"
	"time"
)

// The messages below are written from the protocol's description: the names of the fields are what counts on the wire. Enums are bare
// numbers, so these are for gob.

// Address is an address of a network card.
type Address struct {
	IpAddress  net.IP
	MacAddress string
}

// Volume is a disk.
type Volume struct {
	DFM struct {
		NvramSize uint64
		Profile   string
	}
	Format, Interface uint
	Size              uint64
	Snapshots         map[string]uint64
	Type              uint
	VirtualSize       uint64
}

// VmInfo is what is known of a VM.
type VmInfo struct {
	Address             Address
	ArchitectureType    uint
	ChangedStateOn      time.Time
	ConsoleType         uint
	CreatedOn           time.Time
	CpuPriority         int
	DestroyOnPowerdown  bool
	DestroyProtection   bool
	DisableVirtIO       bool
	ExtraKernelOptions  string
	FirmwareType        uint
	Hostname            string
	IdentityExpires     time.Time
	IdentityName        string
	ImageName, ImageURL string
	MachineType         uint
	MemoryInMiB         uint64
	MilliCPUs           uint
	NetworkEntries      []struct{ NumQueues uint }
	OwnerGroups         []string
	OwnerUsers          []string
	RootFileSystemLabel string
	SpreadVolumes       bool
	State               uint
	SecondaryAddresses  []Address
	SecondarySubnetIDs  []string
	SubnetId            string
	Tags                map[string]string
	Uncommitted         bool
	VirtualCPUs         uint

	VirtualiserImageName string
	Volumes              []Volume
	WatchdogAction       uint
	WatchdogModel        uint
}

// VMRequest is the request of the many methods that take a VM and no more than what is here.
type VMRequest struct {
	AccessToken []byte
	DhcpTimeout time.Duration
	IpAddress   net.IP
}

// ErrorReply is the reply of the methods that say nothing else, and a part of most others.
type ErrorReply struct{ Error string }

// GetVmInfoReply is the reply of GetVmInfo.
type GetVmInfoReply struct {
	VmInfo VmInfo
	Error  string
}

// ListRequest is the request of ListVMs, and without Sort of GetVmInfos.
type ListRequest struct {
	IgnoreStateMask         uint64
	OwnerGroups, OwnerUsers []string
	Sort                    bool
	VmTagsToMatch           map[string][]string
}

// ListVMsReply is the reply of ListVMs, which has no Error.
type ListVMsReply struct{ IpAddresses []net.IP }

// Capacity is the reply of GetCapacity.
type Capacity struct {
	AvailableMemoryInMiB, MemoryInMiB uint64
	NumCPUs                           uint
	TotalVolumeBytes                  uint64
	Error                             string
}

// ImportRequest is the request of ImportLocalVm, which embeds a VmInfo.
type ImportRequest struct {
	SkipMemoryCheck    bool
	VerificationCookie []byte
	VmInfo
	VolumeFilenames []string
}
