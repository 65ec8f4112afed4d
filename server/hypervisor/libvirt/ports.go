package libvirt

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// sparePorts is how many virtio disks a machine with PCI Express can be given between two starts. Each is a root port of its own, which must be there when the
// machine starts. A board of type pc has one bus with 32 places instead.
const sparePorts = 8

// buildPorts describes the root ports of a board with PCI Express: one for each device that takes one, and the spare ones. libvirt adds what lacks, but
// none to spare.
func buildPorts(s hypervisor.Spec) []libvirtxml.DomainController {
	if s.Machine == hypervisor.MachinePC {
		return nil
	}
	n := len(s.NICs) + 2 + sparePorts // a memory balloon and a random number generator
	for _, d := range s.Disks {
		if d.Bus == hypervisor.BusVirtio || d.Bus == hypervisor.BusNVMe {
			n++
		}
	}
	if hasBus(s, hypervisor.BusSCSI) {
		n++
	}
	if s.Console == hypervisor.ConsoleVNC {
		n++ // a USB controller
	}
	ports := make([]libvirtxml.DomainController, n)
	for i := range ports {
		ports[i] = libvirtxml.DomainController{Type: "pci", Model: "pcie-root-port", Index: new(uint(i + 1))}
	}
	return ports
}

// freePorts counts in a domain's description the root ports to which nothing is connected. limited is false for a board that has no root ports.
func freePorts(text string) (free int, limited bool, err error) {
	ports, used := make(map[string]bool), make(map[uint64]bool)
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, false, fault.As(fault.Internal, err, "understand the machine's description")
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		attrs := make(map[string]string, len(start.Attr))
		for _, a := range start.Attr {
			attrs[a.Name.Local] = a.Value
		}
		switch {
		case start.Name.Local == "controller" && attrs["model"] == "pcie-root-port":
			ports[attrs["index"]] = true
		case start.Name.Local == "address" && attrs["type"] == "pci":
			if bus, err := strconv.ParseUint(attrs["bus"], 0, 16); err == nil {
				used[bus] = true
			}
		}
	}
	limited = len(ports) > 0
	for bus := range used {
		delete(ports, strconv.FormatUint(bus, 10))
	}
	return len(ports), limited, nil
}
