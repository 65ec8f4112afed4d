package metadata_test

import (
	"strings"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

func TestIPv6(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if got := f.ask("GET", "/nocloud/network-config").Body.String(); strings.Contains(got, "dhcp6") {
		t.Errorf("without an IPv6 address: %q", got)
	}
	info := f.service.VMs.(oneVM)
	info.Address.Ipv6Address = "fd00:99::a"
	info.SecondaryAddresses = []*hypervisorv1.Address{{IpAddress: "10.0.1.9", MacAddress: "52:54:00:00:00:02"}}
	for path, want := range map[string]string{
		"/latest/meta-data/ipv6": "fd00:99::a",
		"/nocloud/network-config": "version: 2\nethernets:\n" +
			"  card0:\n    match:\n      macaddress: \"52:54:00:00:00:01\"\n    dhcp4: true\n    dhcp6: true\n" +
			"  card1:\n    match:\n      macaddress: \"52:54:00:00:00:02\"\n    dhcp4: true\n",
	} {
		if got := f.ask("GET", path).Body.String(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
