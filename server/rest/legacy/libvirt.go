package legacy

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// host serves HyperSDK's paths below /libvirt and /console: everything that the host's virtualisation service has.
type host struct {
	virt hypervisorv1.VirtualisationServiceClient
}

// created is an answer with status 201.
type created struct{ body any }

// routes are the paths of domains, snapshots, pools, volumes, networks, network cards and figures.
func (h *host) routes() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"GET /libvirt/domains":          get(h.domains),
		"GET /libvirt/domain":           get(h.domain, "name"),
		"POST /libvirt/domain/start":    post(h.start),
		"POST /libvirt/domain/shutdown": post(h.shutdown),
		"POST /libvirt/domain/destroy":  post(h.destroy),
		"POST /libvirt/domain/reboot":   post(h.reboot),
		"POST /libvirt/domain/pause":    post(h.pause),
		"POST /libvirt/domain/resume":   post(h.resume),
		"POST /libvirt/domain/send-key": post(h.sendKey),
		"GET /libvirt/console":          get(h.console, "name"),
		"GET /console/info":             get(h.consoleInfo, "name"),
		"GET /console/serial-device":    get(h.serialDevice, "name"),

		"GET /libvirt/snapshots":        get(h.snapshots, "name"),
		"POST /libvirt/snapshot/create": post(h.createSnapshot),
		"POST /libvirt/snapshot/revert": post(h.revertSnapshot),
		"POST /libvirt/snapshot/delete": post(h.deleteSnapshot),

		"GET /libvirt/pools":         get(h.pools),
		"GET /libvirt/pool":          get(h.pool, "name"),
		"POST /libvirt/pool/create":  post(h.createPool),
		"POST /libvirt/pool/start":   post(h.startPool),
		"POST /libvirt/pool/stop":    post(h.stopPool),
		"POST /libvirt/pool/refresh": post(h.refreshPool),
		"POST /libvirt/pool/delete":  post(h.deletePool),

		"GET /libvirt/volumes":        get(h.volumes, "pool"),
		"GET /libvirt/volume/info":    get(h.volume, "pool", "volume"),
		"POST /libvirt/volume/create": post(h.createVolume),
		"POST /libvirt/volume/clone":  post(h.cloneVolume),
		"POST /libvirt/volume/resize": post(h.resizeVolume),
		"POST /libvirt/volume/delete": post(h.deleteVolume),
		"POST /libvirt/volume/upload": h.uploadVolume,
		"POST /libvirt/volume/wipe":   post(h.wipeVolume),

		"GET /libvirt/networks":          get(h.networks),
		"GET /libvirt/network":           get(h.network, "name"),
		"POST /libvirt/network/create":   post(h.createNetwork),
		"POST /libvirt/network/delete":   post(h.deleteNetwork),
		"POST /libvirt/network/start":    post(h.startNetwork),
		"POST /libvirt/network/stop":     post(h.stopNetwork),
		"GET /libvirt/interfaces":        get(h.interfaces, "name"),
		"POST /libvirt/interface/attach": post(h.attachInterface),
		"POST /libvirt/interface/detach": post(h.detachInterface),

		"GET /libvirt/stats":         get(h.stats, "name"),
		"GET /libvirt/stats/all":     get(h.allStats),
		"GET /libvirt/stats/cpu":     get(h.cpuStats, "name"),
		"GET /libvirt/stats/memory":  get(h.memoryStats, "name"),
		"GET /libvirt/stats/disk":    get(h.diskStats, "name"),
		"GET /libvirt/stats/network": get(h.networkStats, "name"),
		"GET /libvirt/stats/host":    get(h.hostStats),
	}
}

// registerLibvirt adds the paths to the mux.
func registerLibvirt(mux *http.ServeMux, cc grpc.ClientConnInterface) {
	h := &host{hypervisorv1.NewVirtualisationServiceClient(cc)}
	for pattern, f := range h.routes() {
		mux.Handle(pattern, handler(f))
	}
	mux.Handle("GET /console/screenshot", raw(h.screenshot))
	mux.Handle("GET /libvirt/volume/download", raw(h.downloadVolume))
}

// query holds the parameters of a GET by their names.
type query map[string]string

// get makes a handler of a GET that takes these parameters and no others. All but pool must be there.
func get(f func(ctx context.Context, q query) (any, error), names ...string) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		q, err := readQuery(r, names...)
		if err != nil {
			return nil, err
		}
		return f(r.Context(), q)
	}
}

func readQuery(r *http.Request, names ...string) (query, error) {
	q := make(query)
	for key, values := range r.URL.Query() {
		if !slices.Contains(names, key) {
			return nil, fault.New(fault.InvalidArgument, "query parameter %q: is unknown; there are: %s", key, strings.Join(names, ", "))
		}
		q[key] = values[0]
	}
	for _, name := range names {
		if q[name] == "" && name != "pool" && name != "format" {
			return nil, fault.New(fault.InvalidArgument, "query parameter %q: is missing", name)
		}
	}
	return q, nil
}

// post makes a handler of a POST whose body is a B.
func post[B any](f func(ctx context.Context, body B) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var body B
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		return f(r.Context(), body)
	}
}

// named is the body of what is done to something that has a name.
type named struct {
	Name string `json:"name"`
}

// done is the answer of what was done.
type done struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func success(format string, args ...any) done { return done{"success", fmt.Sprintf(format, args...)} }

// answered turns an error into an answer, or says what was done.
func answered(err error, format string, args ...any) (any, error) {
	if err != nil {
		return nil, err
	}
	return success(format, args...), nil
}

// domainView is HyperSDK's domain, with its memory in MiB; what stands below persistent is Hyperplane's.
type domainView struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	UUID       string `json:"uuid"`
	State      string `json:"state"`
	CPUs       uint32 `json:"cpus"`
	Memory     uint64 `json:"memory"`
	Autostart  bool   `json:"autostart"`
	Persistent bool   `json:"persistent"`

	Managed     bool   `json:"managed"`
	VMHostname  string `json:"vm_hostname,omitempty"`
	VMIPAddress string `json:"vm_ip_address,omitempty"`
}

func domainViewOf(d *hypervisorv1.Domain) domainView {
	v := domainView{
		ID: "-", Name: d.GetName(), UUID: d.GetUuid(), State: domainState(d.GetState()), CPUs: d.GetCpus(), Memory: d.GetMemoryBytes() >> 20,
		Autostart: d.GetAutostart(), Persistent: d.GetPersistent(), Managed: d.GetManaged(), VMHostname: d.GetVmHostname(), VMIPAddress: d.GetVmIpAddress(),
	}
	if d.GetId() > 0 {
		v.ID = strconv.Itoa(int(d.GetId()))
	}
	return v
}

// domainState returns virsh's word for a state.
func domainState(s hypervisorv1.DomainState) string {
	switch s {
	case hypervisorv1.DomainState_DOMAIN_STATE_RUNNING:
		return "running"
	case hypervisorv1.DomainState_DOMAIN_STATE_PAUSED:
		return "paused"
	case hypervisorv1.DomainState_DOMAIN_STATE_STOPPING:
		return "in shutdown"
	case hypervisorv1.DomainState_DOMAIN_STATE_CRASHED:
		return "crashed"
	case hypervisorv1.DomainState_DOMAIN_STATE_OFF:
		return "shut off"
	default:
		return ""
	}
}

// listed is the answer of a list: the entries under their name, and how many there are.
func listed[M, V any](name string, all []M, view func(M) V) map[string]any {
	views := make([]V, len(all))
	for i, m := range all {
		views[i] = view(m)
	}
	return map[string]any{name: views, "total": len(views)}
}

func now() time.Time { return time.Now().UTC() }
