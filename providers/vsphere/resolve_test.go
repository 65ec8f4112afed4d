package vsphere

import (
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

func inventoryOf(vms ...driver.VM) []listed {
	var all []listed
	for _, vm := range vms {
		all = append(all, listed{ref: types.ManagedObjectReference{Type: vmType, Value: vm.ID}, instanceUUID: "50" + vm.UUID, vm: vm})
	}
	return all
}

func TestChoose(t *testing.T) {
	t.Parallel()
	all := inventoryOf(
		driver.VM{ID: "vm-1", Name: "web", Path: "/DC/vm/prod/web", UUID: "42aa"},
		driver.VM{ID: "vm-2", Name: "web", Path: "/DC/vm/test/web", UUID: "42bb"},
		driver.VM{ID: "vm-3", Name: "a/b", Path: "/DC/vm/a%2fb", UUID: "42cc"},
		driver.VM{ID: "vm-4", Name: "vm-1", Path: "/DC/vm/vm-1", UUID: "42cc"},
	)
	for ref, want := range map[string]string{
		"/DC/vm/prod/web":     "vm-1",
		"prod/web":            "vm-1",
		"VirtualMachine:vm-1": "vm-1",
		"vm-2":                "vm-2",
		"42AA":                "vm-1",
		"5042bb":              "vm-2",
		"a/b":                 "vm-3",
		"a%2fb":               "",
		"/DC/vm/a%2fb":        "vm-3",
		"web":                 "2 VMs", // two of that name
		"42cc":                "2 VMs", // a BIOS UUID that a clone has kept
		"vm-1":                "2 VMs", // the id of one, the name of another
		"nothing":             "",
	} {
		hit, err := choose(all, ref)
		switch {
		case err == nil:
			if hit.vm.ID != want {
				t.Errorf("%q means %s, want %q", ref, hit.vm.ID, want)
			}
		case want == "":
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("%q: %v, want NotFound", ref, err)
			}
		case !fault.Is(err, fault.InvalidArgument) || !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v, want InvalidArgument that says %q", ref, err, want)
		}
	}
}

func TestSimilar(t *testing.T) {
	t.Parallel()
	names := []string{"web01", "web02", "web10", "database", "mail", "Web01-old", ""}
	for want, near := range map[string][]string{
		"wbe01":     {"web01"},
		"WEB01":     {"web01", "web02", "Web01-old"},
		"databaes":  {"database"},
		"qqqqqqqqq": {},
		"":          {},
	} {
		if got := similar(want, names, 3); !slices.Equal(got, near) {
			t.Errorf("similar to %q: %q, want %q", want, got, near)
		}
	}
}

func TestPathOfVM(t *testing.T) {
	t.Parallel()
	ref := func(kind, id string) types.ManagedObjectReference {
		return types.ManagedObjectReference{Type: kind, Value: id}
	}
	dc, top, app := ref("Datacenter", "d1"), ref("Folder", "f1"), ref("VirtualApp", "a1")
	containers := tree{
		dc:  {name: "DC", parent: ref("Folder", "root")},
		top: {name: "vm", parent: dc},
		app: {name: "shop", parent: top},
		// A loop, as no server should give it.
		ref("Folder", "x"): {name: "x", parent: ref("Folder", "y")},
		ref("Folder", "y"): {name: "y", parent: ref("Folder", "x")},
	}
	if got := containers.path(place{name: "web", parent: app}); got != "/DC/vm/shop/web" {
		t.Errorf("path of a VM in a vApp: %s", got)
	}
	if got := containers.path(place{name: "web", parent: ref("Folder", "hidden")}); got != "/web" {
		t.Errorf("path of a VM whose folder the account may not see: %s", got)
	}
	if got := containers.path(place{name: "web", parent: ref("Folder", "x")}); !strings.HasSuffix(got, "/x/web") {
		t.Errorf("path of a VM in a loop: %s", got)
	}
}
