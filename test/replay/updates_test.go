package replay_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// views are what a client of GetUpdates knows after the updates of the stock server, and after ours. The stock server tells each change by itself, and steps
// between; ours tells what has changed since. So what is compared is what a client knows, each time that something is done.
type views struct {
	stock, ours map[string]any
	// open says that the stock server has told something since they were compared.
	open bool
}

// update takes an update of the stock server. One that says nothing answers a request, which our server has to answer too.
func (p *player) update(c *conn, s srpctest.Step) error {
	var v any
	var err error
	if c.json() {
		err = json.Unmarshal(s.Data, &v)
	} else {
		v, err = c.stock.Read(bufio.NewReader(bytes.NewReader(s.Data)))
	}
	if err != nil {
		return err
	}
	if c.views.stock == nil {
		c.views = views{stock: make(map[string]any), ours: make(map[string]any)}
	}
	rewritten, _ := p.rewrite(v)
	told := p.view(c.views.stock, rewritten)
	if c.views.open = c.views.open || told; told {
		return nil
	}
	return p.ourUpdate(c)
}

func (p *player) ourUpdate(c *conn) error {
	m, err := c.readAnswer()
	switch {
	case err == nil:
		p.view(c.views.ours, m)
	case errors.Is(err, io.EOF):
		p.mismatch("end", "", "the connection ends")
		c.refused = true
		return nil
	}
	return err
}

// view adds an update to what a client knows, and reports whether it said anything.
func (p *player) view(known map[string]any, update any) (told bool) {
	m, _ := rules{p, "Update", false}.plain("Update", update).(map[string]any)
	for flag, field := range map[string]string{"HaveAddressPool": "AddressPool", "HaveSubnets": "Subnets", "HaveDisabled": "Disabled", "NumFreeAddresses": "NumFreeAddresses"} {
		if m[flag] != nil {
			known[field], told = m[field], true
		}
	}
	vms, _ := m["VMs"].(map[string]any)
	for address, vm := range vms {
		told = true
		if info, _ := vm.(map[string]any); info["Volumes"] == nil {
			delete(known, "VM "+address)
		} else {
			known["VM "+address] = info
		}
	}
	// A VM of which nothing is said has gone.
	if raw, _ := update.(map[string]any); raw != nil {
		all, _ := raw["VMs"].(map[string]any)
		for address := range all {
			if vms[address] == nil {
				told = true
				delete(known, "VM "+address)
			}
		}
	}
	return told
}

// settle reads our updates until they say what the stock server's did, and notes what stays different.
func (p *player) settle(c *conn) error {
	if !c.views.open {
		return nil
	}
	c.views.open = false
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	differ := p.differ
	for {
		p.differ = slices.Clone(differ)
		p.compareViews(c)
		if reflect.DeepEqual(differ, p.differ) || p.asStated() {
			break
		}
		if err := p.ourUpdate(c); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			return err
		}
	}
	p.once()
	return c.SetReadDeadline(time.Now().Add(patience))
}

// asStated says that all that is different is stated to be so.
func (p *player) asStated() bool {
	stated := differences()[p.name].ours
	return !slices.ContainsFunc(p.differ, func(m mismatch) bool { _, ok := stated[plainWhere(m.where)]; return !ok })
}

// once keeps each difference once, though it is seen each time that views are compared.
func (p *player) once() {
	seen := make(map[string]bool)
	p.differ = slices.DeleteFunc(p.differ, func(m mismatch) bool {
		was := seen[plainWhere(m.where)]
		seen[plainWhere(m.where)] = true
		return was
	})
}

func (p *player) compareViews(c *conn) {
	r := rules{p, "Update", false}
	keys := maps.Clone(c.views.stock)
	maps.Copy(keys, c.views.ours)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !slices.Contains(p.extras.apart, key) {
			kind := rules{p, "VmInfo", false}
			if key == "Subnets" {
				kind = r
			}
			kind.compare("Update."+key, c.views.stock[key], c.views.ours[key])
		}
	}
}

// updatesSession has watchers.
func updatesSession() session {
	return session{steps: []step{
		do(surroundings), full(),
		do(func(ctx context.Context, w *world) {
			six(ctx, w)
			w.destroy(ctx, "10.99.1.8")
			w.create(ctx, "10.99.1.20", "run1b", func(s *hypervisorv1.CreateVmSpec) {
				s.ImageDataSize, s.DoNotStart = 512<<10, false
				s.VmInfo.Tags, s.VmInfo.CpuPriority, s.VmInfo.ConsoleType = map[string]string{"Name": "run1", "env": "live"}, 4, hypervisorv1.ConsoleType_CONSOLE_TYPE_VNC
			})
		}),
		play("get-updates", "get-updates-hyper-control"),
	}}
}

// fleetSession has a fleet manager.
func fleetSession() session {
	return session{steps: []step{
		do(surroundings), full(),
		do(func(ctx context.Context, w *world) {
			six(ctx, w)
			w.unpool(ctx, "10.99.1.20")
			w.unpool(ctx, "10.99.1.21")
		}),
		given("json-changes"),
		play("json-get-updates"),
		given("json-change-tags"),
		play("fleet-manager"),
	}}
}

func updatesExtras() map[string]extras {
	type hooks = map[string]func(context.Context, *player)
	return map[string]extras{
		"json-get-updates": {updates: true, apart: []string{"NumFreeAddresses", "AddressPool"}},
		"get-updates-hyper-control": {updates: true, during: hooks{
			"Update#2": func(ctx context.Context, p *player) { p.configure(ctx, "mini2", "two") },
			"Update#3": func(ctx context.Context, p *player) { p.configure(ctx, "mini2", "three") },
		}},
		"fleet-manager": {updates: true, apart: []string{"AddressPool"}, during: hooks{"Update#8": func(ctx context.Context, p *player) {
			_, err := hypervisorv1.NewVmConfigurationServiceClient(p.Dial(true)).ChangeVmTags(ctx, &hypervisorv1.ChangeVmTagsRequest{
				Vm: "10.99.1.3", Tags: map[string]string{"Name": "mini", "a": "b", "env": "fm", "x": "y"},
			})
			if err != nil {
				p.t.Fatal(err)
			}
		}}},
		"get-updates": {updates: true, during: hooks{
			"Update#2": func(ctx context.Context, p *player) { p.configure(ctx, "mini", "one") },
			"Update#3": func(ctx context.Context, p *player) { p.configure(ctx, "mini2", "one") },
			"Update#5": func(ctx context.Context, p *player) { p.create(ctx, "10.99.1.9", "upd", nil) },
			"Update#8": func(ctx context.Context, p *player) {
				if _, err := p.vms().StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: "10.99.1.9"}); err != nil {
					p.t.Fatal(err)
				}
			},
			"Update#10": func(ctx context.Context, p *player) { p.destroy(ctx, "10.99.1.9") },
			"Update#13": func(ctx context.Context, p *player) { p.disable(ctx, true) },
			"Update#14": func(ctx context.Context, p *player) { p.disable(ctx, false) },
			"Update#15": func(_ context.Context, p *player) { p.pool("10.99.1.50") },
			"Update#16": func(ctx context.Context, p *player) { p.unpool(ctx, "10.99.1.50") },
			"Update#17": func(ctx context.Context, p *player) {
				p.subnet(ctx, &hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{{Id: "net3", IpGateway: "10.95.0.1", IpMask: "255.255.0.0"}}})
			},
			"Update#18": func(ctx context.Context, p *player) {
				p.subnet(ctx, &hypervisorv1.UpdateSubnetsRequest{Delete: []string{"net3"}})
			},
		}},
	}
}

func (w *world) subnet(ctx context.Context, req *hypervisorv1.UpdateSubnetsRequest) {
	w.t.Helper()
	if _, err := w.networks().UpdateSubnets(ctx, req); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) disable(ctx context.Context, disable bool) {
	w.t.Helper()
	if _, err := hypervisorv1.NewHostServiceClient(w.Dial(true)).SetDisabledState(ctx, &hypervisorv1.SetDisabledStateRequest{Disable: disable}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) destroy(ctx context.Context, vm string) {
	w.t.Helper()
	if _, err := w.vms().DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: vm}); err != nil {
		w.t.Fatal(err)
	}
}
