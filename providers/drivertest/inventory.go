package drivertest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

func testListFindsAll(t *testing.T, h *Harness) {
	t.Helper()
	vms, err := h.Driver.ListVMs(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	paths := make([]string, len(vms))
	for i, vm := range vms {
		paths[i] = vm.Path
	}
	if !slices.IsSorted(paths) {
		t.Errorf("the list is not ordered by path: %q", paths)
	}
	for _, want := range []Machine{h.Off, h.On} {
		i := slices.Index(paths, want.Path)
		if i < 0 {
			t.Fatalf("%s is not in the list %q", want.Path, paths)
		}
		if vms[i].Name != want.Name || vms[i].ID == "" {
			t.Errorf("%s has name %q and id %q", want.Path, vms[i].Name, vms[i].ID)
		}
	}
}

func testListByPattern(t *testing.T, h *Harness) {
	t.Helper()
	for _, pattern := range []string{h.Off.Name, h.Off.Path, h.Off.Name[:1] + "*" + h.Off.Name[len(h.Off.Name)-1:]} {
		vms, err := h.Driver.ListVMs(t.Context(), pattern)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(vms, func(vm driver.VM) bool { return vm.Path == h.Off.Path }) {
			t.Errorf("pattern %q does not find %s", pattern, h.Off.Path)
		}
		if slices.ContainsFunc(vms, func(vm driver.VM) bool { return vm.Path == h.On.Path }) {
			t.Errorf("pattern %q finds %s", pattern, h.On.Path)
		}
	}
	_, err := h.Driver.ListVMs(t.Context(), "[")
	wantCode(t, err, fault.InvalidArgument)
}

func testGet(t *testing.T, h *Harness) {
	t.Helper()
	byPath, err := h.Driver.GetVM(t.Context(), h.Off.Path)
	if err != nil {
		t.Fatal(err)
	}
	if byPath.Path != h.Off.Path || byPath.Name != h.Off.Name || byPath.Power != driver.PowerOff {
		t.Errorf("%s is described as %+v", h.Off.Path, byPath)
	}
	if len(byPath.Disks) != len(h.Off.Disks) {
		t.Fatalf("%s has %d disks, want %d", h.Off.Path, len(byPath.Disks), len(h.Off.Disks))
	}
	for i, d := range byPath.Disks {
		if d.Capacity != int64(len(h.Off.Disks[i])) || d.ID == "" || d.Bus == "" {
			t.Errorf("disk %d is described as %+v, its size is %d", i, d, len(h.Off.Disks[i]))
		}
	}
	for _, ref := range []string{h.Off.Name, byPath.ID} {
		vm, err := h.Driver.GetVM(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(byPath, vm); diff != "" {
			t.Errorf("by %q another VM than by path (-path +other):\n%s", ref, diff)
		}
	}
}

func testGetMissing(t *testing.T, h *Harness) {
	t.Helper()
	for _, ref := range []string{h.Similar, strings.TrimSuffix(h.Off.Path, h.Off.Name) + h.Similar} {
		_, err := h.Driver.GetVM(t.Context(), ref)
		wantCode(t, err, fault.NotFound)
		if !strings.Contains(err.Error(), ref) || !strings.Contains(err.Error(), h.Off.Name) {
			t.Errorf("the error does not name %q and the similar %q: %v", ref, h.Off.Name, err)
		}
	}
	_, err := h.Driver.GetVM(t.Context(), "")
	wantCode(t, err, fault.InvalidArgument)
}

func testGetAmbiguous(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "Ambiguous", h.Ambiguous != "") {
		return
	}
	_, err := h.Driver.GetVM(t.Context(), h.Ambiguous)
	wantCode(t, err, fault.InvalidArgument)
	vms, lerr := h.Driver.ListVMs(t.Context(), h.Ambiguous)
	if lerr != nil || len(vms) < 2 {
		t.Fatalf("the list of %q has %d VMs (%v)", h.Ambiguous, len(vms), lerr)
	}
	for _, vm := range vms {
		if !strings.Contains(err.Error(), vm.Path) {
			t.Errorf("the error does not name %s: %v", vm.Path, err)
		}
	}
}

func testWrongPassword(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "WrongPassword", h.WrongPassword != nil) {
		return
	}
	const password = "not-the-pass-phrase"
	err := h.WrongPassword(t.Context(), password)
	wantCode(t, err, fault.Unauthenticated)
	if strings.Contains(err.Error(), password) {
		t.Errorf("the error shows the password: %v", err)
	}
}

func testBlocked(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "Blocked", h.Blocked != "") {
		return
	}
	vm, err := h.Driver.GetVM(t.Context(), h.Blocked)
	if err != nil {
		t.Fatal(err)
	}
	if len(vm.Blockers) == 0 {
		t.Fatalf("%s has no blockers", h.Blocked)
	}
	_, err = h.Driver.Open(t.Context(), h.Blocked, driver.OpenOptions{})
	wantCode(t, err, fault.FailedPrecondition)
	if !strings.Contains(err.Error(), vm.Blockers[0]) {
		t.Errorf("the error does not say %q: %v", vm.Blockers[0], err)
	}
	h.nothingLeft(t)
}
