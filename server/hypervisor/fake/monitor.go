package fake

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// MonitorCommand implements hypervisor.Monitor: a monitor that knows its version, and the machine's name and state.
func (d *Driver) MonitorCommand(ctx context.Context, uuid string, command []byte) (answer []byte, err error) {
	_, id, err := hypervisor.SplitCommand(command)
	if err != nil {
		return nil, err
	}
	err = d.doLive(ctx, MethodMonitorCommand, uuid, "spoken to", func(_ *Host, m *machine) error {
		answer, err = hypervisor.JoinAnswer(m.obeyMonitor(command), id)
		return err
	})
	return answer, err
}

func (m *machine) obeyMonitor(command []byte) map[string]json.RawMessage {
	var c struct {
		Execute string `json:"execute"`
	}
	_ = json.Unmarshal(command, &c) // it was checked to be an object; another type of execute is no command
	result := func(v any) map[string]json.RawMessage {
		text, _ := json.Marshal(v) //nolint:errchkjson // strings and maps of them
		return map[string]json.RawMessage{"return": text}
	}
	switch c.Execute {
	case "qmp_capabilities":
		return result(struct{}{})
	case "query-version":
		return result(map[string]any{"qemu": map[string]int{"major": 7, "minor": 2, "micro": 0}, "package": "fake"})
	case "query-name":
		return result(map[string]string{"name": m.spec.Name})
	case "query-status":
		return result(map[string]any{"running": m.state == hypervisor.Running, "status": m.state.String()})
	default:
		text, _ := json.Marshal(map[string]string{ //nolint:errchkjson // strings
			"class": "CommandNotFound", "desc": fmt.Sprintf("The command %s has not been found", c.Execute),
		})
		return map[string]json.RawMessage{"error": text}
	}
}
