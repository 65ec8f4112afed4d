package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

// fleet runs a fleet manager with two hosts that have no subnets but those that it gives them.
func (l *lab) fleet(ctx context.Context) (err error) {
	for name, address := range map[string]string{"a": "127.0.10.1", "b": "127.0.10.2"} {
		d, err := l.daemon(ctx, name, "subnets: []\n", address)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Stop()) }()
	}
	for _, name := range []string{"fm", "fm/log"} {
		if err := os.Mkdir(l.path(name), 0o755); err != nil {
			return err
		}
	}
	pki := l.path("pki") + "/"
	m, err := proc.Start(nil, nil, l.bin+"/fleet-manager", "-topologyRepository", l.path("topology"), "-topologyCheckInterval", "5s", "-manageHypervisors",
		"-stateDir", l.path("fm"), "-logDir", l.path("fm/log"), "-alsoLogToStderr", "-CAfile", pki+"CA.pem", "-identityCAfile", pki+"IdentityCA.pem",
		"-certFile", l.path("fleet/fleet.cert"), "-keyFile", l.path("fleet/fleet.key"))
	if err != nil {
		return err
	}
	defer m.Kill()
	const to = "-fleetManagerHostname 127.0.0.1"
	if err := l.pooled(ctx, strings.Fields(to)...); err != nil {
		return fmt.Errorf("%w\n%s", err, m.Output())
	}
	return l.do(ctx, to, l.path("a/sock"), fleetSteps)
}

// pooled waits until the fleet manager has given both hosts addresses.
func (l *lab) pooled(ctx context.Context, to ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		out, err := proc.Run(ctx, nil, l.bin+"/vm-control", "-certDirectory", l.path("alice"), to[0], to[1], "-location", "lab", "get-hypervisors")
		if err == nil && strings.Count(out, `"prod": 16`) == 2 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the fleet manager has given its hosts no addresses: %s %w", out, err)
		}
	}
}

// onlyAt ask the fleet manager where the VM is, which must be where it is, and that the other host has given up its address.
func onlyAt(here, other string) []step {
	return []step{
		{"alice vm-control get-vm-hypervisor 10.77.0.200", here + ":6976", "", ""},
		{"alice vm-control get-ip-info 10.77.0.200", "is allocated to VM 10.77.0.200(m1) on Hypervisor: " + here, "", ""},
		{"admin hyper-control -hypervisorHostname " + other + " remove-ip-address 10.77.0.200", "!is not in the pool", "", ""},
	}
}

var fleetSteps = append(append(append([]step{
	{"alice vm-control list-locations", "lab", "", ""},
	{"alice vm-control list-hypervisors", "127.0.10.2", "subnet list", "prod"},
	{"alice hyper-control -maxUpdates 1 get-updates", "ChangedHypervisors", "", ""},
	{"alice hyper-control get-machine-info 127.0.10.1", "HostIpAddress", "", ""},
	// Placement is left to the client, which asks the fleet manager. The fleet manager gave the one host 10.77.0.2 and so on, the other what follows.
	{create[:len("alice vm-control ")] + "-location lab -subnetId prod -dhcpTimeout 0s -imageFile {dir}/boot.raw -vmHostname placed create-vm", "10.77.0.", "", ""},
	{"admin hyper-control -hypervisorHostname 127.0.10.1 add-address 52:54:0a:4d:00:c8 10.77.0.200", "", "", ""},
	{"alice vm-control -hypervisorHostname 127.0.10.1 -subnetId prod -dhcpTimeout 0s -imageFile {dir}/boot.raw -vmHostname m1 -userDataFile {dir}/user-data" +
		" -requestIPs 10.77.0.200 create-vm", "10.77.0.200", "vm get m1", "running"},
	{"abandon: alice vm-control -hypervisorHostname 127.0.10.2 -dhcpTimeout 0s migrate-vm 10.77.0.200", "!abandoned", "vm get m1", "running"},
}, onlyAt("127.0.10.1", "127.0.10.2")...), append([]step{
	{"commit: alice vm-control -hypervisorHostname 127.0.10.2 -dhcpTimeout 0s migrate-vm 10.77.0.200", "", "vm list", "!m1"},
}, onlyAt("127.0.10.2", "127.0.10.1")...)...), append([]step{
	{"commit: alice vm-control -hypervisorHostname 127.0.10.1 -dhcpTimeout 0s migrate-vm 10.77.0.200", "", "vm get m1", "running"},
}, append(onlyAt("127.0.10.1", "127.0.10.2"), step{
	"alice vm-control -hypervisorHostname 127.0.10.2 -vmHostname twin -subnetId prod copy-vm 10.77.0.200", "10.77.0.", "", "",
})...)...)
