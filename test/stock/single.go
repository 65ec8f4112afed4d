package main

import (
	"context"
	"errors"
)

// single runs the commands against one host: from its own address, where clients move to a Unix socket, and a few over TLS.
func (l *lab) single(ctx context.Context) (err error) {
	d, err := l.daemon(ctx, "one", "", "127.0.0.1", "127.0.0.2")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	sock := l.path("one/sock")
	if err := l.do(ctx, "-hypervisorHostname 127.0.0.1", sock, singleHost); err != nil {
		return err
	}
	return l.do(ctx, "-hypervisorHostname 127.0.0.2", sock, overTLS)
}

// The subnet of the fake hypervisor is not served by the daemon, so nobody may wait for leases: -dhcpTimeout is a minute unless it is given.
const create = "alice vm-control -subnetId default -dhcpTimeout 0s "

var overTLS = []step{
	{"alice vm-control list-vms", "10.88.0.12", "", ""},
	{"alice vm-control -userDataFile {dir}/got get-vm-user-data 10.88.0.12", "", "", ""},
	{"alice vm-control -volumeIndex 0 -volumeFilename {dir}/got.root get-vm-volume 10.88.0.12", "", "", ""},
	{create + "-imageFile {dir}/boot.raw -vmHostname tls -userDataFile {dir}/user-data create-vm", "10.88.0.", "vm get tls", "running"},
	{"alice vm-control destroy-vm 10.88.0.12", "", "vm list", "!vm1"},
}

var singleHost = []step{
	{"admin hyper-control get-capacity", "MemoryInMiB", "", ""},
	{"admin hyper-control get-public-key", "BEGIN PUBLIC KEY", "", ""},
	{"admin hyper-control get-identity-provider", "!no Identity Provider", "", ""},
	{"admin hyper-control list-volume-directories", "{dir}/one/more", "", ""},
	{"alice hyper-control disable-hypervisor", "!access to method denied", "", ""},
	{"admin hyper-control disable-hypervisor", "", "", ""},
	{create + "-imageFile {dir}/boot.raw -vmHostname vm1 create-vm", "!Hypervisor is disabled", "vm list", "!vm1"},
	{"admin hyper-control enable-hypervisor", "", "", ""},
	{"admin hyper-control add-subnet sub2 10.99.1.1 255.255.255.0 10.99.1.1", "", "subnet list", "sub2"},
	{"admin hyper-control add-address 52:54:00:63:01:05 10.99.1.5", "", "", ""},
	{"admin hyper-control add-address 52:54:00:63:01:06 10.99.1.6", "", "", ""},
	{"admin hyper-control remove-ip-address 10.99.1.6", "", "", ""},
	{"admin hyper-control remove-mac-address 52:54:00:63:01:06", "!no free address has it", "", ""},
	{"admin hyper-control -lockTimeout 1s hold-lock", "", "", ""},
	{"admin hyper-control -externalLeaseAddresses 52:54:00:00:02:00;10.88.0.200 register-external-leases", "", "", ""},
	{"alice hyper-control watch-dhcp", "!access to method denied", "", ""},

	{create + "-imageFile {dir}/boot.raw -vmHostname vm1 -memory 64MiB -userDataFile {dir}/user-data -secondaryVolumeSizes 16MiB,32MiB -vmTags a=b -ownerUsers bob" +
		" -consoleType vnc -requestIPs 10.88.0.12 create-vm", "10.88.0.12", "vm get vm1", "running"},
	{create + "-imageURL file://{dir}/images/url.raw -vmHostname vm2 -userDataFile {dir}/user-data -doNotStart create-vm", "10.88.0.10", "vm get vm2", "stopped"},
	{create + "-imageURL file:///etc/hostname -vmHostname vm3 create-vm", "!outside the image directory", "vm list", "!vm3"},
	{"alice vm-control list-vms", "10.88.0.12", "", ""},
	{"alice vm-control get-vm-info 10.88.0.12", `"Hostname": "vm1"`, "", ""},
	{"alice vm-control -vmTagsToMatch a=b get-vm-infos", "10.88.0.12", "", ""},
	{"alice vm-control get-vm-create-request 10.88.0.12", "ImageDataSize", "", ""},
	{"alice vm-control get-vm-info 10.88.0.99", "!no VM with IP address: 10.88.0.99 found", "", ""},
	{"alice vm-control -dhcpTimeout 0s reboot-vm 10.88.0.12", "", "", ""},
	{"alice vm-control stop-vm 10.88.0.12", "", "vm get vm1", "stopped"},
	{"alice vm-control start-vm 10.88.0.12", "!dhcp_timeout", "vm get vm1", "stopped"},
	{"alice vm-control -dhcpTimeout 0s start-vm 10.88.0.12", "", "vm get vm1", "running"},
	{"alice vm-control -probePortNum 22 -probeTimeout 1s probe-vm-port 10.88.0.12", "!timed out", "", ""},
	{"admin hyper-control -lockTimeout 1s -writeLock hold-vm-lock 10.88.0.12", "", "", ""},
	{"bob vm-control become-primary-vm-owner 10.88.0.12", "", "vm get vm1 -o json", `"bob",`},

	{"alice vm-control -secondaryVolumeSizes 16MiB,16MiB add-vm-volumes 10.88.0.10", "", "vm get vm2 -o json", `"16777216"`},
	{"alice vm-control -consoleType vnc change-vm-console-type 10.88.0.10", "", "vm get vm2 -o json", "CONSOLE_TYPE_VNC"},
	{"alice vm-control -cpuPriority 5 change-vm-cpu-priority 10.88.0.10", "", "vm get vm2 -o json", `"cpu_priority": 5`},
	{"alice vm-control -cpuPriority -5 change-vm-cpu-priority 10.88.0.10", "!needs method power", "", ""},
	{"alice vm-control -milliCPUs 1500 change-vm-cpus 10.88.0.10", "", "vm get vm2 -o json", `"milli_cpus": 1500`},
	{"alice vm-control -vCPUs 3 change-vm-vcpus 10.88.0.10", "", "vm get vm2 -o json", `"virtual_cpus": 3`},
	{"alice vm-control -memory 128MiB change-vm-memory 10.88.0.10", "", "vm get vm2 -o json", `"memory_in_mib": "128"`},
	{"alice vm-control -destroyProtection change-vm-destroy-protection 10.88.0.10", "", "vm get vm2 -o json", `"destroy_protection": true`},
	{"alice vm-control -vmHostname two change-vm-hostname 10.88.0.10", "", "vm list", "two"},
	{"alice vm-control -machineType q35 change-vm-machine-type 10.88.0.10", "", "vm get two -o json", "MACHINE_TYPE_Q35"},
	{"alice vm-control -numNetworkQueues 2 change-vm-num-network-queues 10.88.0.10", "", "vm get two -o json", `"num_queues": 2`},
	{"alice vm-control -ownerGroups team-a change-vm-owner-groups 10.88.0.10", "", "vm get two -o json", "team-a"},
	{"alice vm-control -ownerUsers admin change-vm-owner-users 10.88.0.10", "", "vm get two -o json", `"admin"`},
	{"alice vm-control -vmTags k=v change-vm-tags 10.88.0.10", "", "vm get two -o json", `"k": "v"`},
	{"alice vm-control -volumeIndex 1 -volumeSize 32MiB change-vm-volume-size 10.88.0.10", "", "vm get two -o json", `"33554432"`},
	{"alice vm-control -volumeIndex 1 -storageIndex 1 change-vm-volume-storage-index 10.88.0.10", "", "", ""},
	{"alice vm-control get-vm-volume-storage-configuration 10.88.0.10", "VolumeStorageIndices", "", ""},
	{"alice vm-control -volumeIndices 0,2,1 reorder-vm-volumes 10.88.0.10", "", "", ""},
	{"alice vm-control -volumeIndex 1 delete-vm-volume 10.88.0.10", "", "", ""},
	{"alice vm-control -volumeIndex 0 delete-vm-volume 10.88.0.10", "!cannot delete root volume", "", ""},

	{"alice vm-control -snapshotName s1 snapshot-vm 10.88.0.10", "", "vm get two -o json", `"s1"`},
	{"alice vm-control -snapshotName s1 restore-vm-from-snapshot 10.88.0.10", "", "vm get two -o json", `!"s1"`},
	{"alice vm-control -snapshotName s2 snapshot-vm 10.88.0.12", "!must be stopped", "", ""},
	{"alice vm-control -snapshotName s2 -forceIfNotStopped snapshot-vm 10.88.0.12", "", "", ""},
	{"alice vm-control -snapshotName s2 discard-vm-snapshot 10.88.0.12", "", "vm get vm1 -o json", `!"s2"`},
	{"alice vm-control -userDataFile {dir}/new.raw replace-vm-user-data 10.88.0.10", "", "", ""},
	{"alice vm-control restore-vm-user-data 10.88.0.10", "", "", ""},
	{"alice vm-control discard-vm-old-user-data 10.88.0.10", "", "", ""},
	{"alice vm-control -dhcpTimeout 0s -imageFile {dir}/new.raw replace-vm-image 10.88.0.10", "", "", ""},
	{"alice vm-control restore-vm-image 10.88.0.10", "", "", ""},
	{"alice vm-control discard-vm-old-image 10.88.0.10", "", "", ""},
	{"alice vm-control -dhcpTimeout 0s -imageFile {dir}/new.raw debug-vm-image 10.88.0.10", "", "vm get two", "debugging"},
	{"alice vm-control stop-vm 10.88.0.10", "", "vm get two", "stopped"},
	{"alice vm-control -imageName none patch-vm-image 10.88.0.10", `!image "none"`, "", ""},
	{"alice vm-control set-vm-migrating 10.88.0.10", "!access to method denied", "", ""},
	{"admin vm-control set-vm-migrating 10.88.0.10", "", "vm get two", "migrating"},
	{"admin vm-control unset-vm-migrating 10.88.0.10", "", "vm get two", "stopped"},
	{"alice vm-control discard-vm-access-token 10.88.0.10", "", "", ""},
	{"alice vm-control -identityCertFile {dir}/bob/bob.cert -identityKeyFile {dir}/bob/bob.key replace-vm-credentials 10.88.0.10", "", "vm get two -o json", `"bob"`},
	{"alice vm-control replace-vm-identity 10.88.0.10", "", "vm get two -o json", `"identity_name": ""`},
	{"alice vm-control save-vm 10.88.0.10 dir://{dir}/saved", "", "", ""},
	{"alice vm-control destroy-vm 10.88.0.10", "", "vm list", "!two"},
	{"alice vm-control -dhcpTimeout 0s restore-vm dir://{dir}/saved", "10.88.0.10", "vm get two", "running"},
	{"alice vm-control stop-vm 10.88.0.10", "", "", ""},
	{"alice vm-control -subnetId sub2 change-vm-subnet 10.88.0.10", "10.99.1.5", "vm get two", "10.99.1.5"},
	{"alice vm-control list-vm-virtualiser-log-files 10.99.1.5", "", "", ""},
	{"alice vm-control destroy-vm 10.99.1.5", "", "vm list", "!two"},

	{"admin hyper-control power-off", "!not stopped", "", ""},
	{"alice vm-control stop-vm 10.88.0.12", "", "", ""},
	{"admin hyper-control power-off", "", "", ""},
}
