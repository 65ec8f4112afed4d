package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/bench/daemon"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// starts is how many VMs are started in each way.
const starts = 9

// compareStart measures define and start of a VM by StartVm and by virsh, in turn, on a libvirt of its own. What StartVm does in one call takes virsh two.
func compareStart(ctx context.Context, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	libvirt, err := privatelibvirt.Start(ctx, privatelibvirt.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, libvirt.Stop()) }()
	config := fmt.Sprintf("hypervisor: {driver: libvirt, socket: %s, accel: tcg, run_dir: %s}\nlog_level: error\n", libvirt.Socket, filepath.Join(dir, "vms"))
	started, err := daemon.New(ctx, dir, config)
	if err != nil {
		return err
	}
	d := bench{started}
	defer func() { err = errors.Join(err, d.Stop()) }()
	var ours, theirs []time.Duration
	for i := range starts + 1 {
		a, b, err := d.startBoth(ctx, "qemu+unix:///system?socket="+libvirt.Socket)
		if err != nil {
			return err
		}
		if i > 0 { // the first one asks libvirt what it can do
			ours, theirs = append(ours, a), append(theirs, b)
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	a, b := ours[starts/2], theirs[starts/2]
	fmt.Printf("%-58s %.0f ms, by virsh %.0f ms: ratio %.2f (at most 1.3)\n", "define and start on libvirt by StartVm", ms(a), ms(b), a.Seconds()/b.Seconds())
	return nil
}

// startBoth starts one VM by StartVm, and then the same machine by virsh.
func (d bench) startBoth(ctx context.Context, uri string) (ours, theirs time.Duration, err error) {
	virsh := func(args ...string) (string, error) {
		return proc.Run(ctx, nil, "virsh", append([]string{"-q", "-c", uri}, args...)...)
	}
	uuid, err := d.Create(ctx)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if _, err := d.VMs.StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: uuid}); err != nil {
		return 0, 0, err
	}
	ours = time.Since(begin)
	xml, err := virsh("dumpxml", "--inactive", uuid)
	if err != nil {
		return 0, 0, err
	}
	file := filepath.Join(d.Dir, "machine.xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		return 0, 0, err
	}
	for _, action := range []string{"destroy", "undefine"} {
		if _, err := virsh(action, uuid); err != nil {
			return 0, 0, err
		}
	}
	begin = time.Now()
	if _, err := virsh("define", file); err != nil {
		return 0, 0, err
	}
	if _, err := virsh("start", uuid); err != nil {
		return 0, 0, err
	}
	theirs = time.Since(begin)
	_, err = d.VMs.DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: uuid})
	return ours, theirs, err
}
