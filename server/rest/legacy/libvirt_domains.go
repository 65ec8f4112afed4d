package legacy

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func (h *host) domains(ctx context.Context, _ query) (any, error) {
	res, err := h.virt.ListDomains(ctx, &hypervisorv1.ListDomainsRequest{})
	return listed("domains", res.GetDomains(), domainViewOf), err
}

func (h *host) domain(ctx context.Context, q query) (any, error) {
	res, err := h.virt.GetDomain(ctx, &hypervisorv1.GetDomainRequest{Domain: q["name"]})
	return domainViewOf(res.GetDomain()), err
}

func (h *host) start(ctx context.Context, b named) (any, error) {
	_, err := h.virt.StartDomain(ctx, &hypervisorv1.StartDomainRequest{Domain: b.Name})
	return answered(err, "Domain %s started", b.Name)
}

func (h *host) shutdown(ctx context.Context, b named) (any, error) {
	_, err := h.virt.ShutdownDomain(ctx, &hypervisorv1.ShutdownDomainRequest{Domain: b.Name})
	return answered(err, "Domain %s shutdown initiated", b.Name)
}

func (h *host) destroy(ctx context.Context, b named) (any, error) {
	_, err := h.virt.KillDomain(ctx, &hypervisorv1.KillDomainRequest{Domain: b.Name})
	return answered(err, "Domain %s destroyed", b.Name)
}

func (h *host) reboot(ctx context.Context, b named) (any, error) {
	_, err := h.virt.RebootDomain(ctx, &hypervisorv1.RebootDomainRequest{Domain: b.Name})
	return answered(err, "Domain %s reboot initiated", b.Name)
}

func (h *host) pause(ctx context.Context, b named) (any, error) {
	_, err := h.virt.PauseDomain(ctx, &hypervisorv1.PauseDomainRequest{Domain: b.Name})
	return answered(err, "Domain %s paused", b.Name)
}

func (h *host) resume(ctx context.Context, b named) (any, error) {
	_, err := h.virt.ResumeDomain(ctx, &hypervisorv1.ResumeDomainRequest{Domain: b.Name})
	return answered(err, "Domain %s resumed", b.Name)
}

type keys struct {
	Name string   `json:"name"`
	Keys []string `json:"keys"`
}

func (h *host) sendKey(ctx context.Context, b keys) (any, error) {
	_, err := h.virt.SendDomainKeys(ctx, &hypervisorv1.SendDomainKeysRequest{Domain: b.Name, Keys: b.Keys})
	return answered(err, "Keys sent to %s", b.Name)
}

func (h *host) consoleOf(ctx context.Context, name string) (*hypervisorv1.DomainConsole, error) {
	res, err := h.virt.GetDomainConsole(ctx, &hypervisorv1.GetDomainConsoleRequest{Domain: name})
	return res.GetConsole(), err
}

// vncBase is the port of display 0 (RFB over TCP; RFC 6143, section 8.1.1 registers 5900).
const vncBase = 5900

// vncDisplay returns what virsh calls a display (":0", or "ADDRESS:0"), and a URL of it. One on a Unix socket is the socket.
func vncDisplay(c *hypervisorv1.DomainConsole) (display, url string) {
	switch {
	case c.GetVncSocket() != "":
		return c.GetVncSocket(), "vnc+unix://" + c.GetVncSocket()
	case c.GetVncPort() != 0:
		port := strconv.Itoa(int(c.GetVncPort()))
		address := c.GetVncAddress()
		if address == "" {
			address = "localhost"
		}
		return c.GetVncAddress() + ":" + strconv.Itoa(int(c.GetVncPort())-vncBase), "vnc://" + net.JoinHostPort(address, port)
	default:
		return "", ""
	}
}

func (h *host) console(ctx context.Context, q query) (any, error) {
	c, err := h.consoleOf(ctx, q["name"])
	if err != nil {
		return nil, err
	}
	display, url := vncDisplay(c)
	if display == "" {
		return nil, fault.New(fault.FailedPrecondition, "domain %q: has no VNC display, or is off", q["name"])
	}
	return map[string]any{"domain": q["name"], "vnc_display": display, "vnc_url": url}, nil
}

// consoleView leaves webvnc_url empty: VMs have their display as a WebSocket at /v1/vms/{vm}/console.
type consoleView struct {
	VMName       string `json:"vm_name"`
	VNCDisplay   string `json:"vnc_display"`
	VNCPort      uint32 `json:"vnc_port"`
	VNCURL       string `json:"vnc_url"`
	WebVNCURL    string `json:"webvnc_url"`
	HasVNC       bool   `json:"has_vnc"`
	HasSPICE     bool   `json:"has_spice"`
	HasSerial    bool   `json:"has_serial"`
	SerialDevice string `json:"serial_device"`
}

func serialOf(c *hypervisorv1.DomainConsole) string {
	if c.GetSerialDevice() != "" {
		return c.GetSerialDevice()
	}
	return c.GetSerialSocket()
}

func (h *host) consoleInfo(ctx context.Context, q query) (any, error) {
	c, err := h.consoleOf(ctx, q["name"])
	if err != nil {
		return nil, err
	}
	v := consoleView{
		VMName: q["name"], VNCPort: c.GetVncPort(), HasVNC: c.GetVnc(), HasSPICE: c.GetSpice(), HasSerial: c.GetSerial(), SerialDevice: serialOf(c),
	}
	v.VNCDisplay, v.VNCURL = vncDisplay(c)
	return v, nil
}

func (h *host) serialDevice(ctx context.Context, q query) (any, error) {
	c, err := h.consoleOf(ctx, q["name"])
	return map[string]any{"vm_name": q["name"], "device": serialOf(c), "has_serial": c.GetSerial()}, err
}

// screenshot answers with the picture itself. HyperSDK wrote it to a file on the server and answered with its path.
func (h *host) screenshot(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r, "name")
	if err != nil {
		return err
	}
	res, err := h.virt.GetDomainScreenshot(r.Context(), &hypervisorv1.GetDomainScreenshotRequest{Domain: q["name"]})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(res.GetPng()) // a client that has gone needs no answer
	return nil
}

type snapshotView struct {
	Name         string `json:"name"`
	Description  string `json:"description"`
	CreationTime string `json:"creation_time"`
	State        string `json:"state"`
	Current      bool   `json:"current"`
	Parent       string `json:"parent"`
}

func snapshotViewOf(s *hypervisorv1.DomainSnapshot) snapshotView {
	v := snapshotView{
		Name: s.GetName(), Description: s.GetDescription(), State: domainState(s.GetState()), Current: s.GetCurrent(), Parent: s.GetParent(),
	}
	if s.GetCreatedOn() != nil {
		v.CreationTime = s.GetCreatedOn().AsTime().Format(time.RFC3339)
	}
	return v
}

func (h *host) snapshots(ctx context.Context, q query) (any, error) {
	res, err := h.virt.ListDomainSnapshots(ctx, &hypervisorv1.ListDomainSnapshotsRequest{Domain: q["name"]})
	all := listed("snapshots", res.GetSnapshots(), snapshotViewOf)
	all["domain"] = q["name"]
	return all, err
}

type snapshotRef struct {
	DomainName   string `json:"domain_name"`
	SnapshotName string `json:"snapshot_name"`
}

type newSnapshot struct {
	snapshotRef
	Description string `json:"description"`
}

func (h *host) createSnapshot(ctx context.Context, b newSnapshot) (any, error) {
	_, err := h.virt.CreateDomainSnapshot(ctx, &hypervisorv1.CreateDomainSnapshotRequest{
		Domain: b.DomainName, Name: b.SnapshotName, Description: b.Description,
	})
	if err != nil {
		return nil, err
	}
	return created{success("Snapshot %s created for domain %s", b.SnapshotName, b.DomainName)}, nil
}

func (h *host) revertSnapshot(ctx context.Context, b snapshotRef) (any, error) {
	_, err := h.virt.RevertDomainSnapshot(ctx, &hypervisorv1.RevertDomainSnapshotRequest{Domain: b.DomainName, Name: b.SnapshotName})
	return answered(err, "Reverted to snapshot %s", b.SnapshotName)
}

func (h *host) deleteSnapshot(ctx context.Context, b snapshotRef) (any, error) {
	_, err := h.virt.DeleteDomainSnapshot(ctx, &hypervisorv1.DeleteDomainSnapshotRequest{Domain: b.DomainName, Name: b.SnapshotName})
	return answered(err, "Snapshot %s deleted", b.SnapshotName)
}
