package link

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
)

// mark is the alias of the interfaces that this package makes, so that it removes no others.
const mark = "made by hyperplane"

// JoinVLAN connects a VLAN (IEEE 802.1Q) of an uplink to a bridge: it makes the VLAN's interface, and the bridge if there is none, as far as they are
// missing.
func JoinVLAN(ctx context.Context, uplink string, vlan uint32, bridge string) (err error) {
	parent, err := find(uplink)
	if err != nil {
		return fault.Wrap(err, "uplink")
	}
	var u undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, u.Run(ctx))
		}
	}()
	master, err := ensure(&u, &netlink.Bridge{LinkAttrs: named(bridge)})
	if err != nil {
		return err
	}
	attrs := named(vlanName(uplink, vlan))
	attrs.ParentIndex = parent.Attrs().Index
	port, err := ensure(&u, &netlink.Vlan{LinkAttrs: attrs, VlanId: int(vlan)})
	if err != nil {
		return err
	}
	if v, ok := port.(*netlink.Vlan); !ok || v.VlanId != int(vlan) {
		return fault.New(fault.FailedPrecondition, "interface %s: is there and is not VLAN %d of %s", port.Attrs().Name, vlan, uplink)
	}
	if other := port.Attrs().MasterIndex; other != 0 && other != master.Attrs().Index {
		return fault.New(fault.FailedPrecondition, "interface %s: belongs to another bridge than %s", port.Attrs().Name, bridge)
	}
	err = netlink.LinkSetMasterByIndex(port, master.Attrs().Index)
	return fault.As(fault.Unavailable, errors.Join(err, netlink.LinkSetUp(port), netlink.LinkSetUp(master)), "VLAN %d of %s for %s", vlan, uplink, bridge)
}

func named(name string) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return attrs
}

// ensure returns the interface with the name of want, which it makes if it is missing.
func ensure(u *undo.Stack, want netlink.Link) (netlink.Link, error) {
	name := want.Attrs().Name
	have, err := find(name)
	if !fault.Is(err, fault.FailedPrecondition) {
		return have, err
	}
	err = netlink.LinkAdd(want)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil, fault.New(fault.Unimplemented, "interface %s: this kernel can not make one of kind %s; load its module (8021q for VLANs)", name, want.Type())
	}
	if err != nil && !errors.Is(err, syscall.EEXIST) {
		return nil, fault.As(fault.Unavailable, err, "make interface %s", name)
	}
	u.Add(func(context.Context) error { return remove(name) })
	if have, err = find(name); err == nil {
		err = fault.As(fault.Unavailable, netlink.LinkSetAlias(have, mark), "interface %s", name)
	}
	return have, err
}

// LeaveVLAN takes back what JoinVLAN made.
func LeaveVLAN(uplink string, vlan uint32, bridge string) error {
	return errors.Join(remove(vlanName(uplink, vlan)), remove(bridge))
}

// remove removes an interface that this package has made.
func remove(name string) error {
	l, err := find(name)
	if fault.Is(err, fault.FailedPrecondition) || (err == nil && l.Attrs().Alias != mark) {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.As(fault.Unavailable, netlink.LinkDel(l), "remove interface %s", name)
}

// vlanName is a name of at most 15 bytes for a VLAN of an uplink, which may have a long name itself.
func vlanName(uplink string, vlan uint32) string {
	name := fmt.Sprintf("%s.%d", uplink, vlan)
	if len(name) > 15 {
		name = fmt.Sprintf("%s.%d", uplink[:15-1-len(fmt.Sprint(vlan))], vlan)
	}
	return name
}
