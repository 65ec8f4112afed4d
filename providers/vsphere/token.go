package vsphere

import (
	"encoding/json"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// token is what View.Token holds: how to find a view's state again after a crash.
type token struct {
	// Server is the instance UUID of the vCenter, or the address of a standalone host: managed object ids mean nothing elsewhere.
	Server string `json:"server"`
	VM     string `json:"vm"`
	// Power is "off" if the VM itself is read and "on" if a snapshot is.
	Power string `json:"power"`
	// Mark is in the snapshot's description. It finds a snapshot whose id was not learned any more, and proves that it is ours.
	Mark     string `json:"mark,omitempty"`
	Snapshot string `json:"snapshot,omitempty"`
	// ChangeVersion and Since (the server's clock) tell whether a powered-off VM is still what it was.
	ChangeVersion string    `json:"change_version,omitempty"`
	Since         time.Time `json:"since,omitzero"`
}

const (
	powerOff = "off"
	powerOn  = "on"
)

func parseToken(data []byte) (token, error) {
	var t token
	if err := json.Unmarshal(data, &t); err != nil {
		return token{}, fault.As(fault.InvalidArgument, err, "resume token is damaged")
	}
	if t.Server == "" || t.VM == "" || (t.Power != powerOff && t.Power != powerOn) || (t.Power == powerOn && t.Mark == "") {
		return token{}, fault.New(fault.InvalidArgument, "resume token is not one of a vsphere export")
	}
	return t, nil
}

func (t token) encode() []byte {
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // the struct holds nothing that cannot be encoded
	}
	return data
}
