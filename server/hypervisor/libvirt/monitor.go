package libvirt

import (
	"context"
	"encoding/json"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// MonitorCommand implements hypervisor.Monitor. libvirt marks a machine whose monitor was used as tainted. libvirt numbers commands itself, so the caller's id is
// kept from it and put into the answer.
func (d *Driver) MonitorCommand(ctx context.Context, machine string, command []byte) ([]byte, error) {
	text, id, err := hypervisor.SplitCommand(command)
	if err != nil {
		return nil, err
	}
	if err := d.need(ctx, machine, "spoken to", adjustable); err != nil {
		return nil, err
	}
	var answer string
	err = d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		answer, err = c.QEMUDomainMonitorCommand(dom, string(text), 0)
		return classify(err, "machine %q: monitor", dom.Name)
	})
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(answer), &fields); err != nil {
		return nil, fault.As(fault.Internal, err, "machine %s: the monitor's answer", machine)
	}
	return hypervisor.JoinAnswer(fields, id)
}
