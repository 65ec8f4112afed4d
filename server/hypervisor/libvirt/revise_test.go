package libvirt

import (
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

const revisable = `<domain type='kvm'><name>old</name><uuid>11111111-1111-1111-1111-111111111111</uuid><genid>22222222-2222-2222-2222-222222222222</genid>
<title>the old one</title><memory unit='KiB'>65536</memory><maxMemory slots='2' unit='KiB'>131072</maxMemory><vcpu current='1'>2</vcpu>
<cpu><topology sockets='1' cores='2' threads='1'/></cpu>
<sysinfo type='smbios'><system><entry name='uuid'>11111111-1111-1111-1111-111111111111</entry><entry name='serial'>S</entry></system></sysinfo>
<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><nvram>/nvram/old_VARS.fd</nvram></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/d/a'/><target dev='vda' bus='virtio'/></disk>
<disk type='block' device='disk'><source dev='/dev/sdx'/><target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><source file='/d/cd.iso'/><target dev='sda' bus='sata'/><readonly/></disk>
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='tap7'/><model type='virtio'/></interface>
<serial type='unix'><source mode='bind' path='/run/serial'/><log file='/run/11111111-1111-1111-1111-111111111111/log'/></serial>
<graphics type='vnc' port='5901' autoport='no'/></devices></domain>`

func TestReviseDefinition(t *testing.T) {
	t.Parallel()
	var d Driver
	is, err := d.DescribeDefinition([]byte(revisable))
	if err != nil {
		t.Fatal(err)
	}
	if is.Variables != "/nvram/old_VARS.fd" || len(is.Disks) != 2 || is.Disks[1].File != "" || is.Disks[1].Source != "block device" || is.Drives[0].File != "/d/cd.iso" || is.MACs[0] != "52:54:00:00:00:01" {
		t.Errorf("described as %+v", is)
	}
	const id = "33333333-3333-3333-3333-333333333333"
	out, err := d.ReviseDefinition([]byte(revisable), hypervisor.Revision{
		UUID: id, Name: "a&b", Variables: "/nvram/new_VARS.fd", MACs: []string{"52:54:00:00:00:02"}, CPUs: 4, MemoryBytes: 128 << 20, Network: "<net>", Seed: "/d/seed", Eject: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	text := string(out)
	for _, want := range []string{
		"<name>a&amp;b</name>", "<uuid>" + id, "/nvram/new_VARS.fd", "52:54:00:00:00:02", `network="&lt;net&gt;"`, `path="/run/serial-33333333"`, "/run/" + id + "/log", `autoport="yes"`,
		"<vcpu>4</vcpu>", ">131072</memory>", `dev="sdb"`, `file="/d/seed"`, `name="serial"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	for _, gone := range []string{"11111111-", "22222222-", "52:54:00:00:00:01", "br0", "tap7", "/d/cd.iso", "5901", "topology", "the old one", "maxMemory", "/nvram/old"} {
		if strings.Contains(text, gone) {
			t.Errorf("there is still %s", gone)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

func FuzzDescribeDefinition(f *testing.F) {
	f.Add([]byte(revisable))
	f.Add([]byte(`<domain><name>a</name><uuid>b</uuid><devices><disk device='cdrom'/><interface/></devices></domain>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d Driver
		if _, err := d.DescribeDefinition(text); err != nil {
			return
		}
		if _, err := d.ReviseDefinition(text, hypervisor.Revision{UUID: "33333333-3333-3333-3333-333333333333", Name: "n", CPUs: 1, MemoryBytes: 1 << 20, Network: "n", Seed: "/s", Eject: true}); err != nil {
			t.Log(err) // not every definition can be changed
		}
	})
}
