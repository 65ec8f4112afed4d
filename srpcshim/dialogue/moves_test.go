package dialogue

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// watcher is a client of GetUpdates that keeps what it is told.
type watcher struct {
	wire.Talk
	t    *testing.T
	last *Update
	keys map[any]bool
}

func (w *watcher) Write(parts ...any) error {
	w.last = parts[0].(*Update)
	return nil
}

func (w *watcher) Share(key any, build func() (any, error)) error {
	if w.keys[key] {
		w.t.Errorf("%v is told twice", key)
	}
	w.keys[key] = true
	m, err := build()
	w.last, _ = m.(*Update)
	return err
}

// TestMoves follows a VM that comes from another host and leaves it again, as a fleet manager does that must not lose it.
func TestMoves(t *testing.T) {
	t.Parallel()
	const (
		migrating  = hypervisorv1.State_STATE_MIGRATING
		running    = hypervisorv1.State_STATE_RUNNING
		stopped    = hypervisorv1.State_STATE_STOPPED
		destroying = hypervisorv1.State_STATE_DESTROYING
		ip, other  = "10.0.0.7", "10.0.0.8"
		gone       = srpc.State(99) // no state
		silent     = srpc.State(98) // the VM is not mentioned
	)
	vm := func(s hypervisorv1.State, uncommitted bool) *hypervisorv1.Update {
		return &hypervisorv1.Update{Vms: []*hypervisorv1.VmInfo{{
			Uuid: "u", State: s, Uncommitted: uncommitted, Address: &hypervisorv1.Address{IpAddress: ip}, Volumes: []*hypervisorv1.Volume{{Size: 1}},
		}}}
	}
	pool := func(u *hypervisorv1.Update, ips ...string) *hypervisorv1.Update {
		u.AddressPool = new(hypervisorv1.AddressPool)
		for _, a := range ips {
			u.AddressPool.Addresses = append(u.AddressPool.Addresses, &hypervisorv1.Address{IpAddress: a})
		}
		return u
	}
	left := func() *hypervisorv1.Update {
		return &hypervisorv1.Update{DeletedVms: []*hypervisorv1.DeletedVm{{Uuid: "u", IpAddress: ip}}}
	}
	type step struct {
		update *hypervisorv1.Update
		state  srpc.State
		pool   []string // nil = not told
	}
	wireState := func(s hypervisorv1.State) srpc.State {
		w, err := srpc.StateToWire(s)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	arrives := []step{
		{pool(&hypervisorv1.Update{Full: true}, other), silent, []string{other}},
		{pool(vm(migrating, true), ip, other), wireState(migrating), []string{other}},
		{vm(running, true), wireState(migrating), nil},
		{pool(&hypervisorv1.Update{}, ip, other), silent, []string{other}},
	}
	for name, steps := range map[string][]step{
		"arrives": append(slices.Clone(arrives),
			step{vm(running, false), wireState(running), []string{ip, other}}, step{vm(stopped, false), wireState(stopped), nil}),
		"is given up": append(slices.Clone(arrives), step{pool(vm(destroying, true), other), wireState(migrating), []string{other}}, step{left(), gone, []string{other}}),
		"leaves": {
			{pool(vm(stopped, false), ip), wireState(stopped), []string{ip}},
			{pool(vm(migrating, true)), wireState(migrating), []string{}},
			{vm(destroying, true), wireState(migrating), nil},
			{left(), gone, []string{}},
		},
		"leaves live": {
			{pool(vm(running, false), ip), wireState(running), []string{ip}},
			{vm(migrating, false), wireState(migrating), nil},
			{vm(destroying, false), wireState(migrating), nil},
		},
		"stays":         {{vm(migrating, true), wireState(migrating), nil}, {vm(migrating, false), wireState(migrating), nil}, {vm(stopped, false), wireState(stopped), nil}},
		"is taken over": {{vm(running, true), wireState(running), nil}, {vm(running, false), wireState(running), nil}, {vm(destroying, false), wireState(destroying), nil}},
	} {
		w := &watcher{t: t, keys: make(map[any]bool)}
		d := openUpdates(w)
		for i, s := range steps {
			was := proto.CloneOf(s.update)
			if err := d.Send(&hypervisorv1.GetUpdatesResponse{Update: s.update}); err != nil {
				t.Fatal(name, i, err)
			}
			if !proto.Equal(s.update, was) {
				t.Errorf("%s, step %d: everybody's update was changed", name, i)
			}
			got := silent
			if v := w.last.VMs[ip]; v != nil && len(v.Volumes) == 0 {
				got = gone
			} else if v != nil {
				got = v.State
			}
			var told []string
			for _, a := range w.last.AddressPool {
				told = append(told, a.IpAddress.String())
			}
			if got != s.state || w.last.HaveAddressPool != (s.pool != nil) || !slices.Equal(told, s.pool) {
				t.Errorf("%s, step %d: state %v, pool %v %v; want %v, %v", name, i, got, w.last.HaveAddressPool, told, s.state, s.pool)
			}
		}
	}
}
