package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// EnsureNetwork implements hypervisor.Driver. A network that machines are connected to is not changed, because its bridge would be made
// anew without them: FailedPrecondition. A changed gateway forgets the leases.
func (d *Driver) EnsureNetwork(ctx context.Context, n hypervisor.Network) error {
	if err := n.Check(); err != nil {
		return err
	}
	return d.changeNetwork(ctx, n.Name, func(c *conn, back *undo.Stack) error { return d.ensureNetwork(c, n, back) })
}

// changeNetwork runs one change of a network at a time, and takes back what it did if it fails.
func (d *Driver) changeNetwork(ctx context.Context, name string, change func(*conn, *undo.Stack) error) error {
	unlock, err := d.networks.Lock(ctx, name)
	if err != nil {
		return classify(err, "network %q", name)
	}
	defer unlock()
	var back undo.Stack
	err = d.slow.do(ctx, func(c *conn) error { return change(c, &back) })
	if err != nil {
		return errors.Join(err, back.Run(ctx))
	}
	return nil
}

func (d *Driver) ensureNetwork(c *conn, n hypervisor.Network, back *undo.Stack) error {
	if err := checkBridgeFree(c, n); err != nil {
		return err
	}
	net, err := lookupNetwork(c, n.Name)
	if fault.Is(err, fault.NotFound) {
		return d.replaceNetwork(c, nil, buildNetwork(n, "", nil), back)
	}
	if err != nil {
		return err
	}
	old, err := networkXML(c, net)
	if err != nil {
		return err
	}
	shape, err := parseNetwork(old)
	if err != nil {
		return err
	}
	if sameShape(shape, n) {
		return startNetwork(c, net)
	}
	if err := needUnused(c, net); err != nil {
		return err
	}
	var hosts []libvirtxml.NetworkDHCPHost
	if shape.Gateway == n.Gateway && !n.NoDHCP {
		hosts = dhcpHosts(old)
	}
	return d.replaceNetwork(c, old, buildNetwork(n, uuidText(net.UUID), hosts), back)
}

// replaceNetwork stops a network, if there is an old one, and makes it anew. What it did before it failed is put on the stack.
func (d *Driver) replaceNetwork(c *conn, old, fresh *libvirtxml.Network, back *undo.Stack) error {
	if old != nil {
		net, err := lookupNetwork(c, old.Name)
		if err != nil {
			return err
		}
		back.Add(func(ctx context.Context) error {
			return d.slow.do(ctx, func(c *conn) error { return makeNetwork(c, old) })
		})
		if err := stopNetwork(c, net); err != nil {
			return err
		}
	} else {
		back.Add(func(ctx context.Context) error {
			return d.slow.do(ctx, func(c *conn) error { return removeNetwork(c, fresh.Name) })
		})
	}
	return makeNetwork(c, fresh)
}

// makeNetwork defines and starts a network.
func makeNetwork(c *conn, x *libvirtxml.Network) error {
	text, err := x.Marshal()
	if err != nil {
		return fault.As(fault.Internal, err, "network %q: write its definition", x.Name)
	}
	net, err := c.NetworkDefineXMLFlags(text, uint32(golibvirt.NetworkDefineValidate))
	if err != nil {
		return classify(err, "network %q: define it", x.Name)
	}
	return startNetwork(c, net)
}

// startNetwork starts a network now and whenever the host starts.
func startNetwork(c *conn, net golibvirt.Network) error {
	active, err := c.NetworkIsActive(net)
	if err == nil && active == 0 {
		err = c.NetworkCreate(net)
	}
	if err == nil {
		err = c.NetworkSetAutostart(net, 1)
	}
	return classify(err, "network %q: start it", net.Name)
}

func stopNetwork(c *conn, net golibvirt.Network) error {
	active, err := c.NetworkIsActive(net)
	if err == nil && active != 0 {
		err = c.NetworkDestroy(net)
	}
	return classify(err, "network %q: stop it", net.Name)
}

// RemoveNetwork implements hypervisor.Driver. A network that machines are connected to is not removed: FailedPrecondition.
func (d *Driver) RemoveNetwork(ctx context.Context, name string) error {
	return d.changeNetwork(ctx, name, func(c *conn, _ *undo.Stack) error { return removeNetwork(c, name) })
}

func removeNetwork(c *conn, name string) error {
	net, err := lookupNetwork(c, name)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := needUnused(c, net); err != nil {
		return err
	}
	if err := stopNetwork(c, net); err != nil {
		return err
	}
	return classify(c.NetworkUndefine(net), "network %q: undefine it", name)
}

func lookupNetwork(c *conn, name string) (golibvirt.Network, error) {
	net, err := c.NetworkLookupByName(name)
	if isNumber(err, golibvirt.ErrNoNetwork) {
		return net, fault.New(fault.NotFound, "network %q does not exist", name)
	}
	return net, classify(err, "network %q", name)
}

func networkXML(c *conn, net golibvirt.Network) (*libvirtxml.Network, error) {
	text, err := c.NetworkGetXMLDesc(net, uint32(golibvirt.NetworkXMLInactive))
	if err != nil {
		return nil, classify(err, "network %q: read its definition", net.Name)
	}
	x := &libvirtxml.Network{}
	return x, fault.As(fault.Internal, x.Unmarshal(text), "network %q: understand its definition", net.Name)
}

// checkBridgeFree reports whether another network has the bridge. libvirt's own error for that has no number of its own.
func checkBridgeFree(c *conn, n hypervisor.Network) error {
	const every = 0
	all, _, err := c.ConnectListAllNetworks(1, every)
	if err != nil {
		return classify(err, "list the networks")
	}
	for _, other := range all {
		bridge, err := c.NetworkGetBridgeName(other)
		if err != nil || bridge != n.Bridge || other.Name == n.Name {
			continue // one that was removed meanwhile, or has no bridge, is in nobody's way
		}
		return fault.New(fault.AlreadyExists, "bridge %s belongs to network %q", n.Bridge, other.Name)
	}
	return nil
}

// needUnused reports whether machines are connected to a network.
func needUnused(c *conn, net golibvirt.Network) error {
	active, err := c.NetworkIsActive(net)
	if err != nil {
		return classify(err, "network %q", net.Name)
	}
	if active == 0 {
		return nil // it has no ports, and libvirt does not list them
	}
	ports, _, err := c.NetworkListAllPorts(net, 1, 0)
	if err != nil {
		return classify(err, "network %q: list what is connected", net.Name)
	}
	if len(ports) > 0 {
		return fault.New(fault.FailedPrecondition, "network %q is used by %d network cards of running machines; stop these first", net.Name, len(ports))
	}
	return nil
}

func sameShape(a, b hypervisor.Network) bool {
	return a.Bridge == b.Bridge && a.Gateway == b.Gateway && a.Gateway6 == b.Gateway6 && a.Domain == b.Domain && a.Isolated == b.Isolated && a.NoDHCP == b.NoDHCP &&
		slices.Equal(a.DNS, b.DNS)
}

// SharesNetwork reports whether libvirtd's bridges are in this process's network namespace: otherwise nobody here can serve what is connected to them.
func (d *Driver) SharesNetwork(ctx context.Context) (bool, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "unix", d.opts.Socket)
	if err != nil {
		return false, classify(err, "libvirt at %s cannot be reached", d.opts.Socket)
	}
	defer raw.Close() //nolint:errcheck // nothing was written
	control, err := raw.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false, fault.As(fault.Internal, err, "libvirt's socket")
	}
	var peer *unix.Ucred
	var peerErr error
	err = control.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, peerErr); err != nil {
		return false, fault.As(fault.Internal, err, "who serves libvirt's socket")
	}
	ours, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return false, fault.As(fault.Internal, err, "network namespace")
	}
	// A process of another PID namespace that we do not see has number 0.
	theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", peer.Pid))
	if err != nil {
		return false, nil
	}
	return os.SameFile(ours, theirs), nil
}
