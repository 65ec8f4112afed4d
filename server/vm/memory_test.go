package vm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// TestMemoryThatOthersUse refuses to start a VM whose memory is there by the count of VMs, but not in the host at present, unless that is not asked.
func TestMemoryThatOthersUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	stopped := f.vm(false, nil)
	host, err := f.driver.Host(t.Context())
	f.must(err)
	f.host.UseMemory(host.MemoryBytes - 32<<20)
	create := func(skip bool) error {
		file := filepath.Join(f.dir, uuid.NewString())
		f.must(os.WriteFile(file, make([]byte, 4096), 0o600))
		info := &hypervisorv1.VmInfo{MemoryInMib: 64, MilliCpus: 500, SubnetId: "a", Volumes: []*hypervisorv1.Volume{{}}}
		_, err := f.Import(t.Context(), uuid.NewString(), &hypervisorv1.CreateVmSpec{VmInfo: info, SkipMemoryCheck: skip}, []string{file},
			principal.Caller{Principal: principal.Principal{Name: "alice"}, Power: true})
		return err
	}
	wants := func(what string, err error) {
		if !fault.Is(err, fault.ResourceExhausted) || !strings.Contains(err.Error(), "MiB at present") {
			t.Errorf("%s: %v", what, err)
		}
	}
	before := len(f.registry.List())
	wants("create", create(false))
	if n := len(f.registry.List()); n != before {
		t.Errorf("%d VMs, %d before", n, before)
	}
	f.must(create(true))
	_, err = f.StartVm(f.as(true), &hypervisorv1.StartVmRequest{Vm: stopped})
	wants("start", err)
	_, err = f.Resume(t.Context(), stopped, 0)
	wants("resume", err)
	if _, err = f.ResumeUntested(t.Context(), stopped, 0); err != nil {
		t.Error(err)
	}
}
