package vsphere

import (
	"cmp"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// slot is where a disk sits, in the spelling with which the keys of an export lease end: "VirtualLsiLogicController0:1" is unit 1 of the
// first such controller. vCenter makes keys like /vm-42/VirtualLsiLogicController0:1.
func (d disk) slot() string {
	return d.on.kind + strconv.Itoa(d.on.number) + ":" + strconv.Itoa(d.unit)
}

// sources pairs the VM's disks with the URLs of a lease. What the keys leave open is paired in the order of the device keys, in which vCenter
// lists them, and guessed says so. A disk without a URL is an error, because the export would lack it.
func (c *conn) sources(disks []disk, info types.HttpNfcLeaseInfo) (found map[string]source, guessed bool, err error) {
	urls := make(map[string]types.HttpNfcLeaseDeviceUrl)
	var slots []string
	for _, u := range info.DeviceUrl {
		if u.Disk != nil && *u.Disk {
			slot := path.Base(u.Key)
			urls[slot] = u
			slots = append(slots, slot)
		}
	}
	if len(slots) != len(disks) || len(urls) != len(disks) {
		return nil, false, fault.New(fault.FailedPrecondition, "the lease gives %d disks where the VM has %d", len(slots), len(disks))
	}
	found = make(map[string]source, len(disks))
	var unplaced []disk
	for _, d := range disks {
		u, ok := urls[d.slot()]
		if !ok {
			unplaced = append(unplaced, d)
			continue
		}
		slots = slices.DeleteFunc(slots, func(s string) bool { return s == d.slot() })
		if found[diskID(d.Key)], err = c.newSource(u); err != nil {
			return nil, false, err
		}
	}
	slices.SortFunc(unplaced, func(a, b disk) int { return cmp.Compare(a.Key, b.Key) })
	for i, d := range unplaced {
		if found[diskID(d.Key)], err = c.newSource(urls[slots[i]]); err != nil {
			return nil, false, err
		}
	}
	return found, len(unplaced) > 1, nil
}

// newSource completes the URL of a disk. A host of "*" stands for the one that the session talks to.
func (c *conn) newSource(u types.HttpNfcLeaseDeviceUrl) (source, error) {
	at, err := url.Parse(u.Url)
	if err != nil || at.Scheme != "https" || at.Host == "" {
		return source{}, fault.New(fault.FailedPrecondition, "the lease gives an address for %s that is not an https URL", u.Key)
	}
	own := c.inner.URL()
	host, port := at.Hostname(), at.Port()
	switch {
	case host == "*" && port == "":
		host, port = own.Hostname(), own.Port()
	case host == "*":
		host = own.Hostname()
	case port == "":
		port = "443"
	}
	at.Host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	c.trust.addHost(at.Host, u.SslThumbprint, u.SslCertificate)
	return source{key: u.Key, url: at}, nil
}
