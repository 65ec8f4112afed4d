package legacy

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The pages, with small programs of their own: they load nothing from elsewhere.
var (
	//go:embed console_vnc.html
	vncHTML string
	//go:embed console_serial.html
	serialHTML string
)

// consolePage is what a page shows.
type consolePage struct {
	Name string
	// WebSocket is the path that the page's program connects to; empty = there is none, and Why says so.
	WebSocket, Why string
	// Elsewhere are other ways to the console, from the host itself.
	Elsewhere []string
	Nonce     string
}

// vncPage shows the display of a VM, with a small VNC viewer in the page. The display of a domain that is no VM is not passed on: the page tells where it is.
func (a *appliances) vncPage(w http.ResponseWriter, r *http.Request) error {
	dom, c, err := a.consoleOf(r)
	if err != nil {
		return err
	}
	page := consolePage{Name: dom.GetName()}
	if c.GetVncSocket() != "" {
		page.Elsewhere = append(page.Elsewhere, "VNC on the Unix socket "+c.GetVncSocket())
	}
	if c.GetVncPort() != 0 {
		page.Elsewhere = append(page.Elsewhere, fmt.Sprintf("VNC at %s, TCP port %d", c.GetVncAddress(), c.GetVncPort()))
	}
	if c.GetSpicePort() != 0 {
		page.Elsewhere = append(page.Elsewhere, fmt.Sprintf("SPICE at %s, TCP port %d", c.GetSpiceAddress(), c.GetSpicePort()))
	}
	switch {
	case !dom.GetManaged():
		page.Why = "It was not made by this hypervisor, which passes on the displays of its own VMs only."
	case !c.GetVnc():
		page.Why = "It has no VNC server; give it one with ChangeVmConsoleType."
	case dom.GetState() != hypervisorv1.DomainState_DOMAIN_STATE_RUNNING:
		page.Why = "It does not run."
	default:
		page.WebSocket = "/v1/vms/" + dom.GetUuid() + "/console"
	}
	return page.show(w, vncHTML)
}

// serialPage shows the serial port of a VM, as vncPage does its display.
func (a *appliances) serialPage(w http.ResponseWriter, r *http.Request) error {
	dom, c, err := a.consoleOf(r)
	if err != nil {
		return err
	}
	page := consolePage{Name: dom.GetName()}
	if c.GetSerialDevice() != "" {
		page.Elsewhere = append(page.Elsewhere, "the terminal "+c.GetSerialDevice())
	}
	if c.GetSerialSocket() != "" {
		page.Elsewhere = append(page.Elsewhere, "the Unix socket "+c.GetSerialSocket())
	}
	switch {
	case !dom.GetManaged():
		page.Why = "It was not made by this hypervisor, which passes on the serial ports of its own VMs only."
	case dom.GetState() != hypervisorv1.DomainState_DOMAIN_STATE_RUNNING:
		page.Why = "It does not run."
	default:
		page.WebSocket = "/v1/vms/" + dom.GetUuid() + "/serial"
	}
	return page.show(w, serialHTML)
}

func (a *appliances) consoleOf(r *http.Request) (*hypervisorv1.Domain, *hypervisorv1.DomainConsole, error) {
	q, err := readQuery(r, "name")
	if err != nil {
		return nil, nil, err
	}
	dom, err := a.virt.GetDomain(r.Context(), &hypervisorv1.GetDomainRequest{Domain: q["name"]})
	if err != nil {
		return nil, nil, err
	}
	c, err := a.virt.GetDomainConsole(r.Context(), &hypervisorv1.GetDomainConsoleRequest{Domain: q["name"]})
	return dom.GetDomain(), c.GetConsole(), err
}

// show writes the page. What is in it cannot run but for its own program.
func (p consolePage) show(w http.ResponseWriter, text string) error {
	p.Nonce = rand.Text()
	t, err := template.New("console").Parse(text)
	if err != nil {
		return fault.As(fault.Internal, err, "page")
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return fault.As(fault.Internal, err, "page")
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; frame-ancestors 'none'; style-src 'nonce-"+p.Nonce+"'; script-src 'nonce-"+p.Nonce+"'")
	_, _ = w.Write(b.Bytes()) // a client that has gone needs no answer
	return nil
}
