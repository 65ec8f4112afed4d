package ovf

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// The URIs that name a disk's format in a descriptor. The first is from VMware's specification; those of qcow2 and raw have no owner and
// are what oVirt and the tools around it write; those of VHD and VDI are VirtualBox's; that of VHDX is its specification, as the standard wants.
const (
	FormatStreamVMDK = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
	FormatQCOW2      = "http://www.gnome.org/~markmc/qcow-image-format.html"
	FormatRaw        = "http://en.wikipedia.org/wiki/Byte"
	FormatVHD        = "http://go.microsoft.com/fwlink/?LinkId=137171"
	FormatVHDX       = "https://learn.microsoft.com/openspecs/windows_protocols/ms-vhdx"
	FormatVDI        = "http://www.virtualbox.org/"
)

// File is an exported disk: a file that lies beside the descriptor.
type File struct {
	// DiskID is the disk's ID in driver.VM.Disks.
	DiskID string
	// Name is the file's name, as SafeName gives it; Size its length in bytes.
	Name string
	Size int64
	// Format is one of the Format constants.
	Format string
	// Populated is how many bytes of the disk hold data, or 0 if that is not known.
	Populated int64
}

// Write writes the descriptor of vm with the given files, one for each of its disks.
func Write(w io.Writer, vm driver.VM, files []File) error {
	byDisk, err := pair(vm, files)
	if err != nil {
		return err
	}
	env := envelope{
		NS:   "http://schemas.dmtf.org/ovf/envelope/1",
		OVF:  "http://schemas.dmtf.org/ovf/envelope/1",
		RASD: "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
		VSSD: "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
		VMW:  "http://www.vmware.com/schema/ovf",
		XSI:  "http://www.w3.org/2001/XMLSchema-instance",

		Disks:    diskSection{Info: "Virtual disk information"},
		Networks: networkSection{Info: "The list of logical networks", Networks: networks(vm)},
	}
	for i, d := range vm.Disks {
		f := byDisk[d.ID]
		env.References.Files = append(env.References.Files, fileRef{Href: f.Name, ID: fileID(i), Size: f.Size})
		env.Disks.Disks = append(env.Disks.Disks, newDiskRef(i, d, f))
	}
	name := cmp.Or(vm.Name, vm.ID)
	env.System = virtualSystem{
		ID: SafeName(name), Info: "A virtual machine", Name: name,
		OS: osSection{
			ID: osID(vm.GuestOS), Type: vm.GuestOS, Info: "The kind of installed guest operating system", Description: vm.GuestName,
		},
		Hardware: hardware(vm, name),
	}
	text, err := xml.MarshalIndent(env, "", "  ")
	if err != nil {
		return fault.As(fault.Internal, err, "ovf: vm %q", name)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	return err
}

// pair checks that there is exactly one good file for each disk.
func pair(vm driver.VM, files []File) (map[string]File, error) {
	byDisk := make(map[string]File, len(files))
	names := make(map[string]bool, len(files))
	for _, f := range files {
		switch {
		case f.Name != SafeName(f.Name):
			return nil, fault.New(fault.InvalidArgument, "ovf: %q is not a safe file name", f.Name)
		case names[f.Name]:
			return nil, fault.New(fault.InvalidArgument, "ovf: file %q is given twice", f.Name)
		case f.Size < 0 || f.Format == "":
			return nil, fault.New(fault.InvalidArgument, "ovf: file %q lacks a size or a format", f.Name)
		}
		names[f.Name], byDisk[f.DiskID] = true, f
	}
	for _, d := range vm.Disks {
		if _, ok := byDisk[d.ID]; !ok {
			return nil, fault.New(fault.InvalidArgument, "ovf: vm %q: no file for disk %q", vm.Name, d.Label)
		}
	}
	if len(files) != len(vm.Disks) || len(byDisk) != len(vm.Disks) {
		return nil, fault.New(fault.InvalidArgument, "ovf: vm %q has %d disks, %d files were given", vm.Name, len(vm.Disks), len(files))
	}
	return byDisk, nil
}

func fileID(i int) string { return fmt.Sprintf("file%d", i+1) }
func diskID(i int) string { return fmt.Sprintf("vmdisk%d", i+1) }

func newDiskRef(i int, d driver.DiskInfo, f File) diskRef {
	ref := diskRef{Capacity: d.Capacity, Units: "byte", ID: diskID(i), FileRef: fileID(i), Format: f.Format}
	if f.Populated > 0 {
		ref.Populated = &f.Populated
	}
	return ref
}

// networks lists each network of the NICs once.
func networks(vm driver.VM) []network {
	var out []network
	for _, n := range vm.NICs {
		name := networkName(n)
		if !slices.ContainsFunc(out, func(o network) bool { return o.Name == name }) {
			out = append(out, network{Name: name, Description: "The " + name + " network"})
		}
	}
	return out
}

// networkName never gives an empty name: a NIC must be connected to a network that the descriptor lists.
func networkName(n driver.NIC) string { return cmp.Or(n.Network, "none") }
