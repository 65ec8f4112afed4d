package vsphere_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	govmomiovf "github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

func richVM(t *testing.T) vcentersim.VM {
	t.Helper()
	disk := func(seed uint64, size int, bus, controller string) vcentersim.Disk {
		d := diskOf(noise(seed, size))
		d.Bus, d.Controller = bus, controller
		return d
	}
	return vcentersim.VM{
		Name: "rich", CPUs: 4, MemoryMB: 2048, Firmware: "efi", SecureBoot: true, GuestID: "ubuntu64Guest",
		Disks: []vcentersim.Disk{disk(1, 1<<20, "scsi", "pvscsi"), disk(2, 2<<20, "scsi", "pvscsi"), disk(3, 1<<20, "sata", "")},
		NICs:  []vcentersim.NIC{{MAC: "00:50:56:11:22:33"}, {Network: "DC0_DVPG0", Model: "e1000"}},
	}
}

// writePackage exports a VM into a folder as descriptor, disks and manifest.
func writePackage(t *testing.T, v driver.View, dir string) string {
	t.Helper()
	vm := v.VM()
	var files []ovf.File
	var sums []ovf.Digest
	for i, d := range vm.Disks {
		vmdk, err := readDisk(t, v, i)
		if err != nil {
			t.Fatal(err)
		}
		f := ovf.File{DiskID: d.ID, Name: ovf.SafeName(vm.Name + "-" + d.Label + ".vmdk"), Size: int64(len(vmdk)), Format: ovf.FormatStreamVMDK}
		writeFile(t, filepath.Join(dir, f.Name), vmdk)
		files, sums = append(files, f), append(sums, digestOf(f.Name, vmdk))
	}
	var descriptor, manifest bytes.Buffer
	if err := ovf.Write(&descriptor, vm, files); err != nil {
		t.Fatal(err)
	}
	name := ovf.SafeName(vm.Name + ".ovf")
	if err := ovf.WriteManifest(&manifest, "SHA256", append([]ovf.Digest{digestOf(name, descriptor.Bytes())}, sums...)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, name), descriptor.Bytes())
	writeFile(t, filepath.Join(dir, strings.TrimSuffix(name, ".ovf")+".mf"), manifest.Bytes())
	return filepath.Join(dir, name)
}

func digestOf(name string, data []byte) ovf.Digest {
	sum := sha256.Sum256(data)
	return ovf.Digest{Name: name, Sum: sum[:]}
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDescriptorReadBack has govmomi's own parser make a configuration of our descriptor.
func TestDescriptorReadBack(t *testing.T) {
	t.Parallel()
	sim := startSim(t, vcentersim.Config{VMs: []vcentersim.VM{richVM(t)}})
	v := openView(t, connect(t, settings(t, sim)), "rich", driver.OpenOptions{})
	data, err := os.ReadFile(writePackage(t, v, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	env, err := govmomiovf.Unmarshal(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := env.ToConfigSpecWithOptions(govmomiovf.ToConfigSpecOptions{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if spec.NumCPUs != 4 || spec.MemoryMB != 2048 || spec.Firmware != "efi" || spec.BootOptions == nil || !*spec.BootOptions.EfiSecureBootEnabled {
		t.Errorf("configuration: %d CPUs, %d MB, firmware %q, boot options %+v", spec.NumCPUs, spec.MemoryMB, spec.Firmware, spec.BootOptions)
	}
	if spec.GuestId != "ubuntu64Guest" || spec.Name != "rich" {
		t.Errorf("guest %q, name %q", spec.GuestId, spec.Name)
	}
	var kinds []string
	var sizes []int64
	for _, change := range spec.DeviceChange {
		dev := change.GetVirtualDeviceConfigSpec().Device
		kinds = append(kinds, object.VirtualDeviceList{}.TypeName(dev))
		if d, ok := dev.(*types.VirtualDisk); ok {
			sizes = append(sizes, d.CapacityInBytes)
		}
	}
	if diff := cmp.Diff([]int64{1 << 20, 2 << 20, 1 << 20}, sizes); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
	want := []string{"VirtualAHCIController", "ParaVirtualSCSIController", "VirtualDisk", "VirtualDisk", "VirtualDisk", "VirtualVmxnet3", "VirtualE1000"}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	for _, f := range env.References {
		if f.Size == 0 || f.Href == "" {
			t.Errorf("reference %+v", f)
		}
	}
}

// TestImport has govmomi's importer, which checks our manifest against what the server received, import our package.
func TestImport(t *testing.T) {
	t.Parallel()
	vm := richVM(t)
	vm.Disks = vm.Disks[:2] // the simulator's importer knows no SATA
	sim := startSim(t, vcentersim.Config{VMs: []vcentersim.VM{vm}})
	v := openView(t, connect(t, settings(t, sim)), "rich", driver.OpenOptions{})
	file := writePackage(t, v, t.TempDir())

	u, err := soap.ParseURL(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = urlUser()
	c, err := govmomi.NewClient(t.Context(), u, true)
	if err != nil {
		t.Fatal(err)
	}
	finder := find.NewFinder(c.Client)
	imp := importer.Importer{
		Log:     func(s string) (int, error) { t.Log(s); return len(s), nil },
		Client:  c.Client,
		Finder:  finder,
		Archive: &importer.FileArchive{Path: file},
	}
	if imp.Datacenter, err = finder.DefaultDatacenter(t.Context()); err != nil {
		t.Fatal(err)
	}
	finder.SetDatacenter(imp.Datacenter)
	if imp.Datastore, err = finder.DefaultDatastore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if imp.ResourcePool, err = finder.DefaultResourcePool(t.Context()); err != nil {
		t.Fatal(err)
	}
	name := "imported"
	ref, err := imp.Import(t.Context(), file, importer.Options{Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	devices, err := object.NewVirtualMachine(c.Client, *ref).Device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		sizes = append(sizes, d.(*types.VirtualDisk).CapacityInKB<<10)
	}
	if diff := cmp.Diff([]int64{1 << 20, 2 << 20}, sizes); diff != "" {
		t.Errorf("disks of the imported VM (-want +got):\n%s", diff)
	}
	if n := len(devices.SelectByType((*types.VirtualEthernetCard)(nil))); n != 2 {
		t.Errorf("the imported VM has %d network cards, want 2", n)
	}
	if err := c.Logout(t.Context()); err != nil {
		t.Error(err)
	}
}
