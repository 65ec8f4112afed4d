package dialogue

import (
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// trace is one TraceVmMetadata: the request, an answer with an Error, and, without one, lines.
type trace struct {
	dialogue[*hypervisorv1.TraceVmMetadataRequest, *hypervisorv1.TraceVmMetadataResponse]
	p *pipe
}

// SendHeader says that the trace has begun, although nothing was asked for yet.
func (t trace) SendHeader() error { return t.p.accept() }

func openTrace(t wire.Talk) wire.Dialogue {
	p := &pipe{talk: t}
	return trace{dialogue[*hypervisorv1.TraceVmMetadataRequest, *hypervisorv1.TraceVmMetadataResponse]{
		asked(t, func(w VMRequest) (*hypervisorv1.TraceVmMetadataRequest, error) {
			vm, err := wire.IPToProto(w.IpAddress)
			return &hypervisorv1.TraceVmMetadataRequest{Vm: vm}, err
		}),
		func(m *hypervisorv1.TraceVmMetadataResponse) error { return p.send([]byte(m.GetLine() + "\n")) },
		p.end,
	}, p}
}

// WatchDhcpRequest is the request of WatchDhcp.
type WatchDhcpRequest struct {
	Interface  string
	MaxPackets uint64
}

// WatchDhcpResponse is a packet, or an Error.
type WatchDhcpResponse struct {
	Error     string
	Interface string
	Packet    []byte
}

func openWatchDhcp(t wire.Talk) wire.Dialogue {
	return dialogue[*hypervisorv1.WatchDhcpRequest, *hypervisorv1.WatchDhcpResponse]{
		asked(t, func(w WatchDhcpRequest) (*hypervisorv1.WatchDhcpRequest, error) {
			return &hypervisorv1.WatchDhcpRequest{Interface: w.Interface, MaxPackets: w.MaxPackets}, nil
		}),
		func(m *hypervisorv1.WatchDhcpResponse) error {
			return t.Write(&WatchDhcpResponse{Interface: m.GetInterface(), Packet: m.GetPacket()})
		},
		saidAll(t, func(text string) any { return &WatchDhcpResponse{Error: text} }),
	}
}
