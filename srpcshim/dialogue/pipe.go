package dialogue

import (
	"net"
	"sync"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// pipeChunk is how much of what the client says is handed on at once.
const pipeChunk = 32 << 10

// ConnectToVmSerialPortRequest is the request of ConnectToVmSerialPort.
type ConnectToVmSerialPortRequest struct {
	IpAddress  net.IP
	PortNumber uint
}

// pipe is a request, an answer with an Error, and, without one, bytes both ways until either end closes.
type pipe struct {
	talk    wire.Talk
	request func() error // takes it
	asked   bool
	once    sync.Once
	said    error // of the answer
	open    bool  // the answer was sent
	last    string
}

// accept says that there was no error, as soon as the handler begins with the bytes.
func (p *pipe) accept() error {
	p.once.Do(func() {
		p.open = true
		p.said = p.talk.Write(new(ErrorResponse))
	})
	return p.said
}

// recv takes the request, then bytes. The end of what the client says is the end of the connection: nobody uses half of one here.
func (p *pipe) recv() ([]byte, error) {
	if !p.asked {
		p.asked = true
		return nil, p.request()
	}
	if err := p.accept(); err != nil {
		return nil, err
	}
	buf := make([]byte, pipeChunk)
	n, err := p.talk.ReadRaw(buf, true)
	if err != nil {
		p.talk.Cancel()
		return nil, fault.As(fault.Canceled, cut(err), "client")
	}
	return buf[:n], nil
}

func (p *pipe) send(data []byte) error {
	if err := p.accept(); err != nil || len(data) == 0 {
		return err
	}
	return p.talk.Write(data)
}

// end refuses the request, or ends the connection: it can not be used for another call.
func (p *pipe) end(failure error) error {
	if p.open {
		if p.last != "" && failure == nil {
			return join(wire.ErrClose, p.talk.Write([]byte(p.last)))
		}
		return wire.ErrClose
	}
	if failure == nil {
		return join(wire.ErrClose, p.accept())
	}
	return p.talk.Write(&ErrorResponse{Error: p.talk.Text(failure)})
}

func openSerialPort(t wire.Talk) wire.Dialogue {
	p := &pipe{talk: t, last: "VM serial port closed\n"}
	return piped(p, func(m *hypervisorv1.ConnectToVmSerialPortRequest) error {
		w := new(ConnectToVmSerialPortRequest)
		err := readVM(t, w, &w.IpAddress, &m.Vm)
		m.PortNumber = uint32(min(w.PortNumber, 1<<16))
		return err
	}, func(m *hypervisorv1.ConnectToVmSerialPortRequest, data []byte) { m.Data = data }, (*hypervisorv1.ConnectToVmSerialPortResponse).GetData)
}

func openConsole(t wire.Talk) wire.Dialogue {
	return piped(&pipe{talk: t}, func(m *hypervisorv1.ConnectToVmConsoleRequest) error {
		w := new(VMRequest)
		return readVM(t, w, &w.IpAddress, &m.Vm)
	}, func(m *hypervisorv1.ConnectToVmConsoleRequest, data []byte) { m.Data = data }, (*hypervisorv1.ConnectToVmConsoleResponse).GetData)
}

func openManager(t wire.Talk) wire.Dialogue {
	return piped(&pipe{talk: t}, func(m *hypervisorv1.ConnectToVmManagerRequest) error {
		w := new(VMRequest)
		return readVM(t, w, &w.IpAddress, &m.Vm)
	}, func(m *hypervisorv1.ConnectToVmManagerRequest, data []byte) { m.Data = data }, (*hypervisorv1.ConnectToVmManagerResponse).GetData)
}

// readVM takes a request and its address.
func readVM(t wire.Talk, w any, from *net.IP, to *string) error {
	if err := t.Read(w, false); err != nil {
		return err
	}
	var err error
	*to, err = wire.IPToProto(*from)
	return fault.Wrap(err, "request: IpAddress")
}

func piped[Q, R proto.Message](p *pipe, first func(Q) error, put func(Q, []byte), get func(R) []byte) wire.Dialogue {
	return dialogue[Q, R]{
		func(m Q) error {
			p.request = func() error { return first(m) }
			data, err := p.recv()
			if data != nil {
				put(m, data)
			}
			return err
		},
		func(m R) error { return p.send(get(m)) },
		p.end,
	}
}
