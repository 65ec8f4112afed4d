package dialogue

import (
	"net"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// VMRequest is the request of methods that name a VM and nothing else.
type VMRequest struct{ IpAddress net.IP }

// GetVmLastPatchLogResponse is the answer of GetVmLastPatchLog. Length raw bytes follow it.
type GetVmLastPatchLogResponse struct {
	Error     string
	Length    uint64
	PatchTime time.Time
}

func openPatchLog(t wire.Talk) wire.Dialogue {
	f := &file{talk: t, sorry: func(text string) any { return &GetVmLastPatchLogResponse{Error: text} }}
	return dialogue[*hypervisorv1.GetVmLastPatchLogRequest, *hypervisorv1.GetVmLastPatchLogResponse]{
		asked(t, func(w VMRequest) (*hypervisorv1.GetVmLastPatchLogRequest, error) {
			vm, err := wire.IPToProto(w.IpAddress)
			return &hypervisorv1.GetVmLastPatchLogRequest{Vm: vm}, err
		}),
		func(m *hypervisorv1.GetVmLastPatchLogResponse) error {
			return f.send(m.GetLength(), m.GetData(), func(length uint64) any {
				return &GetVmLastPatchLogResponse{Length: length, PatchTime: wire.TimeToWire(m.GetPatchTime())}
			})
		},
		f.end,
	}
}

// GetVmVirtualiserLogFileRequest is the request of GetVmVirtualiserLogFile.
type GetVmVirtualiserLogFileRequest struct {
	Filename  string
	IpAddress net.IP
}

// GetVmVirtualiserLogFileResponse is the answer of GetVmVirtualiserLogFile. Length raw bytes follow it.
type GetVmVirtualiserLogFileResponse struct {
	Error  string
	Length uint64
}

func openLogFile(t wire.Talk) wire.Dialogue {
	f := &file{talk: t, sorry: func(text string) any { return &GetVmVirtualiserLogFileResponse{Error: text} }}
	return dialogue[*hypervisorv1.GetVmVirtualiserLogFileRequest, *hypervisorv1.GetVmVirtualiserLogFileResponse]{
		asked(t, func(w GetVmVirtualiserLogFileRequest) (*hypervisorv1.GetVmVirtualiserLogFileRequest, error) {
			vm, err := wire.IPToProto(w.IpAddress)
			return &hypervisorv1.GetVmVirtualiserLogFileRequest{Filename: w.Filename, Vm: vm}, err
		}),
		func(m *hypervisorv1.GetVmVirtualiserLogFileResponse) error {
			return f.send(m.GetLength(), m.GetData(), func(length uint64) any { return &GetVmVirtualiserLogFileResponse{Length: length} })
		},
		f.end,
	}
}
