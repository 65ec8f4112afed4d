package hypervisor

import (
	"encoding/json"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// SplitCommand checks that a command of the QEMU Machine Protocol is one JSON object, and takes its id (nil without one) out of it.
func SplitCommand(command []byte) (rest []byte, id json.RawMessage, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(command, &fields); err != nil || fields == nil {
		return nil, nil, fault.New(fault.InvalidArgument, "monitor: the command is not one JSON object")
	}
	id = fields["id"]
	delete(fields, "id")
	rest, err = json.Marshal(fields)
	return rest, id, fault.As(fault.Internal, err, "monitor")
}

// JoinAnswer writes an answer of the emulator on one line, with the id of the caller's command.
func JoinAnswer(fields map[string]json.RawMessage, id json.RawMessage) ([]byte, error) {
	delete(fields, "id")
	if id != nil {
		fields["id"] = id
	}
	answer, err := json.Marshal(fields)
	return answer, fault.As(fault.Internal, err, "monitor")
}
