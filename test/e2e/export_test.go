package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

// TestKillInTheMiddleOfAnExport kills the daemon at several points of an export of a running VM. Started again, it goes on from the same
// snapshot and ends with the right content, and nothing is left at the source or here.
func TestKillInTheMiddleOfAnExport(t *testing.T) {
	t.Parallel()
	v := startVCenter(t, 24<<20, "on-1")
	v.inject(`{"kind":"slow","vm":"on-1","bytes_per_second":3000000,"reads":-1}`)
	d := startDaemon(t, v.env(), "--hypervisor", "fake")
	out := t.TempDir()
	j := d.submit("--vm", "on-1", "--format", "qcow2", "--output-dir", out)
	for _, point := range []string{"0", "1", "6000000"} {
		d.wait(j.ID, func(j job) bool {
			return ended(j) || len(j.Progress.BytesDone) > len(point) || (len(j.Progress.BytesDone) == len(point) && j.Progress.BytesDone >= point)
		})
		d.Kill()
		if got := entries(t, out); slices.Contains(got, "on-1") {
			t.Fatalf("a half-made export has its final name: %v", got)
		}
		d.start()
	}
	j = d.wait(j.ID, ended)
	if j.State != "JOB_STATE_COMPLETED" || j.Resumes != 3 {
		t.Fatalf("job: %+v\n%s", j, d.must("job", "logs", j.ID))
	}
	for _, f := range j.Result.Files {
		if f.ContentSHA256 != "" && f.ContentSHA256 != v.sums["on-1"] {
			t.Errorf("%s: content %s, want %s", f.Path, f.ContentSHA256, v.sums["on-1"])
		}
	}
	compare(t, filepath.Join(out, "on-1", "on-1-disk1.qcow2"), v, "on-1")
	if got := entries(t, out); !slices.Equal(got, []string{"on-1"}) {
		t.Errorf("files left: %v", got)
	}
	v.clean()
}

// compare compares an exported image with the source's disk, by hyperexport.
func compare(t *testing.T, image string, v *vcenter, vm string) {
	t.Helper()
	raw := filepath.Join(filepath.Dir(v.ca), vm+".raw")
	if out, err := proc.Run(t.Context(), nil, program(t, "hyperexport"), "compare", raw, image); err != nil {
		t.Errorf("compare: %v %s", err, out)
	}
	if strings.HasSuffix(image, ".qcow2") {
		if out, err := proc.Run(t.Context(), nil, "qemu-img", "check", image); err != nil {
			t.Errorf("qemu-img check: %v %s", err, out)
		}
		if out, err := proc.Run(t.Context(), nil, "qemu-img", "compare", raw, image); err != nil {
			t.Errorf("qemu-img compare: %v %s", err, out)
		}
	}
}

// TestFullDisk exports into a file system that is too small: a clear error, and nothing left.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	v := startVCenter(t, 8<<20, "off-1")
	d := startDaemon(t, v.env(), "--hypervisor", "fake")
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small file system (needs root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	j := d.submit("--vm", "off-1", "--output-dir", small)
	j = d.wait(j.ID, ended)
	if j.State != "JOB_STATE_FAILED" || j.Error == nil || j.Error.Code != "RESOURCE_EXHAUSTED" || !strings.Contains(j.Error.Message, "no space left") {
		t.Errorf("job: %+v", j)
	}
	if got := entries(t, small); len(got) > 0 {
		t.Errorf("files left: %v", got)
	}
	v.clean()
}

// TestHyperexport exports without a daemon.
func TestHyperexport(t *testing.T) {
	t.Parallel()
	v := startVCenter(t, 6<<20, "off-1")
	out := t.TempDir()
	env := v.env()
	text, err := proc.Run(t.Context(), env, program(t, "hyperexport"), "export", "--provider", "vsphere", "--vm", "/DC0/vm/off-1", "--format", "qcow2",
		"--output", out, "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, v.sums["off-1"]) || strings.Contains(text, secret) {
		t.Errorf("output: %s", text)
	}
	compare(t, filepath.Join(out, "off-1", "off-1-disk1.qcow2"), v, "off-1")
	if list, err := proc.Run(t.Context(), env, program(t, "hyperexport"), "list"); err != nil || !strings.Contains(list, "/DC0/vm/off-1") {
		t.Errorf("list: %v %s", err, list)
	}
	for name, c := range map[string]struct {
		args []string
		env  []string
		code string
		want string
	}{
		"no such VM":     {[]string{"export", "--vm", "/DC0/vm/of-1", "--output", out}, env, "exit status 3", "/DC0/vm/off-1"},
		"exists":         {[]string{"export", "--vm", "off-1", "--output", out}, env, "exit status 6", "exists already"},
		"wrong password": {[]string{"list"}, append(slices.Clone(env), "GOVC_PASSWORD=nope-"+secret), "exit status 4", "password"},
		"unknown flag":   {[]string{"export", "--colour", "red"}, env, "exit status 2", "colour"},
		"unknown format": {[]string{"export", "--vm", "off-1", "--format", "tape", "--output", t.TempDir()}, env, "exit status 2", "tape"},
		"not trusted":    {[]string{"list"}, append(slices.Clone(env), "GOVC_TLS_CA_CERTS="), "exit status", "certificate"},
	} {
		out, err := proc.Run(t.Context(), c.env, program(t, "hyperexport"), c.args...)
		if err == nil || !strings.Contains(err.Error(), c.code) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error()+out, secret) {
			t.Errorf("%s: %v, want %s and %q", name, err, c.code, c.want)
		}
	}
	v.clean()
}

// TestPasswordIsNotSeen looks for the vCenter's password in the argument lists of all programs, in the daemon's log and in its files.
func TestPasswordIsNotSeen(t *testing.T) {
	t.Parallel()
	v := startVCenter(t, 4<<20, "off-1")
	v.inject(`{"kind":"slow","vm":"off-1","bytes_per_second":1500000,"reads":-1}`)
	d := startDaemon(t, nil, "--hypervisor", "fake", "--log-level", "debug")
	d.submit("--vm", "off-1", "--output-dir", t.TempDir(), "--url", v.url, "-u", "export", "--password-file", v.password, "--source-ca", v.ca)
	for _, proc := range []int{d.PID(), v.PID()} {
		for _, file := range []string{"cmdline", "environ"} {
			raw, err := os.ReadFile(filepath.Join("/proc", itoa(proc), file))
			if err != nil || bytes.Contains(raw, []byte(secret)) {
				t.Errorf("/proc/%d/%s: %v or the password is in it", proc, file, err)
			}
		}
	}
	if strings.Contains(d.Output()+v.Output(), secret) {
		t.Error("the password is in a log")
	}
	if err := filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%s holds the password", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// TestConvertAndInspect converts an image of another tool and describes the result, in every form of output.
func TestConvertAndInspect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	raw, vmdk := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "disk.vmdk")
	sum := makeDisk(t, raw, 5<<20, 3)
	if _, err := proc.Run(t.Context(), nil, "qemu-img", "convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, vmdk); err != nil {
		t.Fatal(err)
	}
	export := func(args ...string) (string, error) {
		return proc.Run(t.Context(), nil, program(t, "hyperexport"), args...)
	}
	for _, args := range [][]string{{"--to", "qcow2"}, {"--to", "qcow2", "--compress", "zlib"}, {"--to", "raw"}, {"--to", "vmdk"}} {
		target := filepath.Join(dir, "out."+args[1]+itoa(len(args)))
		out, err := export(append([]string{"convert", vmdk, target, "--sha256", "-o", "json"}, args...)...)
		if err != nil || !strings.Contains(out, sum) {
			t.Errorf("convert %v: %v %s", args, err, out)
			continue
		}
		if out, err := export("compare", raw, target); err != nil {
			t.Errorf("compare %v: %v %s", args, err, out)
		}
		for _, format := range []string{"table", "json", "yaml"} {
			if out, err := export("inspect", target, "-o", format); err != nil || !strings.Contains(out, args[1]) {
				t.Errorf("inspect -o %s: %v %s", format, err, out)
			}
		}
	}
	other := filepath.Join(dir, "other.raw")
	makeDisk(t, other, 5<<20, 4)
	if _, err := export("compare", raw, other); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("compare of different images: %v", err)
	}
	for what, args := range map[string][]string{
		"exists already": {"convert", vmdk, raw, "--to", "raw"},
		"no format":      {"convert", vmdk, filepath.Join(dir, "x"), "--to", "tape"},
	} {
		if _, err := export(args...); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v: %v, want %q", args, err, what)
		}
	}
}
