package vsphere

import (
	"context"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// vmType is the managed object type of a VM; "VirtualMachine:vm-42" is the long form of the id "vm-42".
const vmType = "VirtualMachine"

// GetVM implements driver.Driver. ref is an inventory path (/DC/vm/folder/name) or the end of one, a name, a BIOS or instance UUID, or a
// managed object id (vm-42, or VirtualMachine:vm-42 where a VM has such a name).
func (p *platform) GetVM(ctx context.Context, ref string) (driver.VM, error) {
	m, err := p.load(ctx, ref)
	if err != nil {
		return driver.VM{}, err
	}
	return m.vm, nil
}

// load finds a VM and reads all of it.
func (p *platform) load(ctx context.Context, ref string) (*machine, error) {
	if ref == "" {
		return nil, fault.New(fault.InvalidArgument, "vm: no name given; give an inventory path, a name, a UUID or an id")
	}
	id, where, err := p.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return p.machine(ctx, id, where)
}

// resolve returns the VM's reference and its path.
func (p *platform) resolve(ctx context.Context, ref string) (types.ManagedObjectReference, string, error) {
	if strings.HasPrefix(ref, "/") {
		id, where, err := p.byPath(ctx, ref)
		if err != nil || id.Value != "" {
			return id, where, err
		}
	}
	all, err := p.inventory(ctx)
	if err != nil {
		return types.ManagedObjectReference{}, "", err
	}
	hit, err := choose(all, ref)
	if err != nil {
		return types.ManagedObjectReference{}, "", err
	}
	return hit.ref, hit.vm.Path, nil
}

// byPath asks the server, which is quicker than listing, and returns the path as the inventory spells it. No reference means that there is
// no VM at the path.
func (p *platform) byPath(ctx context.Context, at string) (id types.ManagedObjectReference, where string, err error) {
	res, err := methods.FindByInventoryPath(ctx, p, &types.FindByInventoryPath{
		This: *p.content.SearchIndex, InventoryPath: strings.Trim(at, "/"),
	})
	if err != nil {
		return id, "", classify(err, "vm %q", at)
	}
	if res.Returnval == nil || res.Returnval.Type != vmType {
		return id, "", nil
	}
	chain, err := mo.Ancestors(ctx, p, p.content.PropertyCollector, *res.Returnval)
	if err != nil {
		return id, "", classify(err, "vm %q", at)
	}
	for _, e := range chain[min(1, len(chain)):] { // the first is the root folder
		where += "/" + e.Name
	}
	return *res.Returnval, where, nil
}

// choose picks the one VM that ref means. A ref that fits several in different ways (a name here, an id there) is as ambiguous as one that
// is the name of several: guessing would export the wrong VM.
func choose(all []listed, ref string) (*listed, error) {
	var hits []*listed
	for i := range all {
		if fits(&all[i], ref) {
			hits = append(hits, &all[i])
		}
	}
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return nil, notFound(all, ref)
	}
	paths := make([]string, len(hits))
	for i, h := range hits {
		paths[i] = h.vm.Path
		if h.vm.ID == ref {
			paths[i] += " (id " + vmType + ":" + ref + ")"
		}
	}
	return nil, fault.New(fault.InvalidArgument, "vm %q fits %d VMs; give the path of one: %s", ref, len(hits), strings.Join(paths, ", "))
}

func fits(l *listed, ref string) bool {
	if id, ok := strings.CutPrefix(ref, vmType+":"); ok {
		return l.vm.ID == id
	}
	lower := strings.ToLower(ref)
	return l.vm.Name == ref || l.vm.ID == ref || l.vm.Path == ref ||
		(strings.Contains(ref, "/") && strings.HasSuffix(l.vm.Path, "/"+ref)) ||
		l.vm.UUID == lower || l.instanceUUID == lower
}

func notFound(all []listed, ref string) error {
	name := ref[strings.LastIndex(ref, "/")+1:]
	names := make([]string, 0, len(all))
	byName := make(map[string]string, len(all))
	for i := range all {
		names = append(names, all[i].vm.Name)
		byName[all[i].vm.Name] = all[i].vm.Path
	}
	near := similar(name, names, 3)
	if len(near) == 0 {
		return fault.New(fault.NotFound, "vm %q does not exist, or the account may not see it; this account sees %d VMs", ref, len(all))
	}
	paths := make([]string, len(near))
	for i, n := range near {
		paths[i] = byName[n]
	}
	return fault.New(fault.NotFound, "vm %q does not exist; similar: %s", ref, strings.Join(slices.Compact(paths), ", "))
}
