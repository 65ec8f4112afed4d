package vsphere

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// place is where an object hangs in the inventory.
type place struct {
	name   string
	parent types.ManagedObjectReference
}

// tree maps containers to their places. The root folder has none.
type tree map[types.ManagedObjectReference]place

// path gives the inventory path of p, with names escaped as the API gives them ("/" in a name is "%2f").
func (t tree) path(p place) string {
	names := []string{p.name}
	for seen := 0; seen < len(t); seen++ { // a loop in the data must not be one here
		up, ok := t[p.parent]
		if !ok {
			break
		}
		names = append(names, up.name)
		p = up
	}
	slices.Reverse(names)
	return "/" + strings.Join(names, "/")
}

// plainName undoes the escaping of names in the inventory: only "/", "\" and "%" are escaped.
func plainName(name string) string {
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`, "%25", "%").Replace(name)
}

// vmProps are the properties of a VM that cost little even for thousands of VMs.
func vmProps() []string {
	return []string{
		"name", "parent", "parentVApp", "runtime.powerState", "summary.storage.committed",
		"config.uuid", "config.instanceUuid", "config.changeVersion", "config.firmware", "config.bootOptions",
		"config.guestId", "config.guestFullName", "config.hardware.numCPU", "config.hardware.memoryMB",
	}
}

// listed is a VM of the inventory.
type listed struct {
	ref          types.ManagedObjectReference
	instanceUUID string
	vm           driver.VM
}

// inventory returns all VMs that the account can see, ordered by path, with one retrieval.
func (c *conn) inventory(ctx context.Context) ([]listed, error) {
	containers := make(tree)
	var found []record
	err := c.walk(ctx, []types.PropertySpec{
		{Type: "VirtualMachine", PathSet: vmProps()},
		{Type: "Folder", PathSet: []string{"name", "parent"}},
		{Type: "Datacenter", PathSet: []string{"name", "parent"}},
		{Type: "VirtualApp", PathSet: []string{"name", "parent", "parentFolder"}},
	}, func(r record) {
		if r.ref.Type == "VirtualMachine" {
			found = append(found, r)
			return
		}
		containers[r.ref] = placeOf(r, "parentFolder")
	})
	if err != nil {
		return nil, classify(err, "vsphere: %s: list the inventory", c.inner.URL().Host)
	}
	all := make([]listed, len(found))
	for i, r := range found {
		all[i] = listed{ref: r.ref, instanceUUID: strings.ToLower(prop[string](r, "config.instanceUuid")), vm: summarize(r)}
		all[i].vm.Path = containers.path(placeOf(r, "parentVApp"))
	}
	slices.SortFunc(all, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.vm.Path, b.vm.Path), cmp.Compare(a.vm.ID, b.vm.ID))
	})
	return all, nil
}

// placeOf prefers the property named first over the parent: a vApp hangs in a folder as well as in a resource pool, and a VM of a vApp has
// no folder of its own.
func placeOf(r record, first string) place {
	p := place{name: prop[string](r, "name"), parent: prop[types.ManagedObjectReference](r, first)}
	if p.parent.Value == "" {
		p.parent = prop[types.ManagedObjectReference](r, "parent")
	}
	return p
}

// summarize describes a VM without its devices.
func summarize(r record) driver.VM {
	boot := prop[types.VirtualMachineBootOptions](r, "config.bootOptions")
	return driver.VM{
		ID:            r.ref.Value,
		Name:          plainName(prop[string](r, "name")),
		UUID:          strings.ToLower(prop[string](r, "config.uuid")),
		Power:         powerState(prop[types.VirtualMachinePowerState](r, "runtime.powerState")),
		CPUs:          uint32(prop[int32](r, "config.hardware.numCPU")),
		MemoryBytes:   uint64(prop[int32](r, "config.hardware.memoryMB")) << 20,
		Firmware:      firmware(prop[string](r, "config.firmware")),
		SecureBoot:    boot.EfiSecureBootEnabled != nil && *boot.EfiSecureBootEnabled,
		GuestOS:       prop[string](r, "config.guestId"),
		GuestName:     prop[string](r, "config.guestFullName"),
		UsedBytes:     uint64(prop[int64](r, "summary.storage.committed")),
		ChangeVersion: prop[string](r, "config.changeVersion"),
	}
}

// ListVMs implements driver.Driver. The VMs come without Disks, NICs and Blockers: the device list of a VM is tens of kilobytes.
func (p *platform) ListVMs(ctx context.Context, pattern string) ([]driver.VM, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fault.New(fault.InvalidArgument, "pattern %q is not valid; it may use *, ? and [a-z]", pattern)
	}
	all, err := p.inventory(ctx)
	if err != nil {
		return nil, err
	}
	vms := make([]driver.VM, 0, len(all))
	for i := range all {
		if matches(pattern, &all[i].vm) {
			vms = append(vms, all[i].vm)
		}
	}
	return vms, nil
}

func matches(pattern string, vm *driver.VM) bool {
	if pattern == "" {
		return true
	}
	byName, _ := path.Match(pattern, vm.Name)
	byPath, _ := path.Match(pattern, vm.Path)
	return byName || byPath
}
