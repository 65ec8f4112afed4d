package dhcp

import (
	"net/netip"
	"time"
)

// dynamic are the leases of the dynamic range. They are in memory only: after a restart cards ask for the address they had, and get it.
type dynamic struct {
	first, last netip.Addr
	byMAC       map[string]lent
	byAddress   map[netip.Addr]string
	declined    map[netip.Addr]time.Time
}

// lent is an address that is leased or offered until a time.
type lent struct {
	address netip.Addr
	until   time.Time
}

func newDynamic(first, last netip.Addr) *dynamic {
	return &dynamic{
		first: first, last: last,
		byMAC: make(map[string]lent), byAddress: make(map[netip.Addr]string), declined: make(map[netip.Addr]time.Time),
	}
}

func (d *dynamic) contains(a netip.Addr) bool {
	return d.first.IsValid() && a.IsValid() && !a.Less(d.first) && !d.last.Less(a)
}

// free reports whether a card can have an address: nobody else has it. A lease that has expired is forgotten.
func (d *dynamic) free(a netip.Addr, mac string, now time.Time, busy func(netip.Addr) bool) bool {
	if !d.contains(a) || busy(a) || now.Before(d.declined[a]) {
		return false
	}
	owner, taken := d.byAddress[a]
	if !taken || owner == mac {
		return true
	}
	if now.Before(d.byMAC[owner].until) {
		return false
	}
	d.release(owner)
	return true
}

// choose returns an address for a card: the one it has, the one it wishes for, or the lowest free one.
func (d *dynamic) choose(mac string, wish netip.Addr, now time.Time, busy func(netip.Addr) bool) (netip.Addr, bool) {
	for _, a := range []netip.Addr{d.byMAC[mac].address, wish} {
		if d.free(a, mac, now, busy) {
			return a, true
		}
	}
	for a := d.first; d.contains(a); a = a.Next() {
		if d.free(a, mac, now, busy) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// lend keeps an address for a card until a time, and takes back the one it had.
func (d *dynamic) lend(mac string, a netip.Addr, until time.Time) {
	if old, had := d.byMAC[mac]; had && old.address == a && until.Before(old.until) {
		return // an offer does not shorten a lease
	}
	d.release(mac)
	d.byMAC[mac] = lent{a, until}
	d.byAddress[a] = mac
}

func (d *dynamic) release(mac string) {
	delete(d.byAddress, d.byMAC[mac].address)
	delete(d.byMAC, mac)
}

// decline takes an address out of use for a while, because the card that was offered it found it taken.
func (d *dynamic) decline(mac string, a netip.Addr, until time.Time) {
	if d.byMAC[mac].address != a {
		return
	}
	d.release(mac)
	d.declined[a] = until
}
