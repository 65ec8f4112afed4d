package vsphere

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func testConn(t *testing.T) *conn {
	t.Helper()
	u, err := url.Parse("https://vc.example.com:8443/sdk")
	if err != nil {
		t.Fatal(err)
	}
	return &conn{inner: soap.NewClient(u, false), trust: &trust{hosts: make(map[string]fingerprint)}}
}

func deviceURL(key, at string, disk bool) types.HttpNfcLeaseDeviceUrl {
	return types.HttpNfcLeaseDeviceUrl{Key: key, Url: at, Disk: &disk}
}

func TestSourcesArePairedBySlot(t *testing.T) {
	t.Parallel()
	disks := newDevices(configOf(scsi(""), flat(2000, 1000, 0, nil), flat(2001, 1000, 1, nil))).virtualDisks()
	for name, test := range map[string]struct {
		urls    []types.HttpNfcLeaseDeviceUrl
		want    map[string]string
		guessed bool
		code    fault.Code
	}{
		"by key, in any order, beside other files": {
			urls: []types.HttpNfcLeaseDeviceUrl{
				deviceURL("/vm-1/nvram", "https://h/nvram", false),
				deviceURL("/vm-1/ParaVirtualSCSIController0:1", "https://h/b", true),
				deviceURL("/vm-1/ParaVirtualSCSIController0:0", "https://h/a", true),
			},
			want: map[string]string{"2000": "https://h:443/a", "2001": "https://h:443/b"},
		},
		"one key unknown": {
			urls: []types.HttpNfcLeaseDeviceUrl{deviceURL("/vm-1/odd:7", "https://h/a", true), deviceURL("/vm-1/ParaVirtualSCSIController0:1", "https://h/b", true)},
			want: map[string]string{"2000": "https://h:443/a", "2001": "https://h:443/b"},
		},
		"all keys unknown": {
			urls:    []types.HttpNfcLeaseDeviceUrl{deviceURL("/vm-1/disk:0", "https://h/a", true), deviceURL("/vm-1/disk:1", "https://h/b", true)},
			want:    map[string]string{"2000": "https://h:443/a", "2001": "https://h:443/b"},
			guessed: true,
		},
		"a disk without URL":  {urls: []types.HttpNfcLeaseDeviceUrl{deviceURL("/vm-1/ParaVirtualSCSIController0:0", "https://h/a", true)}, code: fault.FailedPrecondition},
		"a key twice":         {urls: []types.HttpNfcLeaseDeviceUrl{deviceURL("/x/a", "https://h/a", true), deviceURL("/y/a", "https://h/b", true)}, code: fault.FailedPrecondition},
		"not https":           {urls: []types.HttpNfcLeaseDeviceUrl{deviceURL("/x/a", "http://h/a", true), deviceURL("/y/b", "https://h/b", true)}, code: fault.FailedPrecondition},
		"no address at all":   {urls: []types.HttpNfcLeaseDeviceUrl{deviceURL("/x/a", "", true), deviceURL("/y/b", "https://h/b", true)}, code: fault.FailedPrecondition},
		"not a parsable URL":  {urls: []types.HttpNfcLeaseDeviceUrl{deviceURL("/x/a", "https://[::1", true), deviceURL("/y/b", "https://h/b", true)}, code: fault.FailedPrecondition},
		"more URLs than disk": {urls: []types.HttpNfcLeaseDeviceUrl{deviceURL("/x/a", "https://h/a", true), deviceURL("/y/b", "https://h/b", true), deviceURL("/y/c", "https://h/b", true)}, code: fault.FailedPrecondition},
	} {
		found, guessed, err := testConn(t).sources(disks, types.HttpNfcLeaseInfo{DeviceUrl: test.urls})
		if fault.CodeOf(err) != test.code {
			t.Errorf("%s: error %v, want code %d", name, err, test.code)
		}
		if err != nil {
			continue
		}
		got := make(map[string]string)
		for id, s := range found {
			got[id] = s.url.String()
		}
		if diff := cmp.Diff(test.want, got); diff != "" || guessed != test.guessed {
			t.Errorf("%s: guessed %t (-want +got):\n%s", name, guessed, diff)
		}
	}
}

func TestSourceHost(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"https://*/nfc/1/disk-0.vmdk":         "https://vc.example.com:8443/nfc/1/disk-0.vmdk",
		"https://*:902/nfc/1/disk-0.vmdk":     "https://vc.example.com:902/nfc/1/disk-0.vmdk",
		"https://esx1.example.com/nfc/1/d":    "https://esx1.example.com:443/nfc/1/d",
		"https://[2001:db8::1]/nfc/1/d":       "https://[2001:db8::1]:443/nfc/1/d",
		"https://[2001:db8::1]:8443/nfc/1/d":  "https://[2001:db8::1]:8443/nfc/1/d",
		"https://192.0.2.7:443/nfc/52%20x/d0": "https://192.0.2.7:443/nfc/52%20x/d0",
	} {
		c := testConn(t)
		u := deviceURL("k", given, true)
		u.SslThumbprint = "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33"
		s, err := c.newSource(u)
		if err != nil {
			t.Errorf("%s: %v", given, err)
			continue
		}
		if got := s.url.String(); got != want {
			t.Errorf("%s becomes %s, want %s", given, got, want)
		}
		if c.trust.hosts[s.url.Host] == "" {
			t.Errorf("%s: the thumbprint is not noted for %s", given, s.url.Host)
		}
	}
}
