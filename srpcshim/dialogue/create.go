package dialogue

import (
	"math/bits"
	"net"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// CreateVmResponse is an answer of CreateVm.
type CreateVmResponse struct {
	DhcpTimedOut    bool
	Final           bool
	IpAddress       net.IP
	ProgressMessage string
	Error           string
}

// creation is one CreateVm: the request, the image, the user data, the secondary volumes; progress, and at last Final or an Error.
type creation struct {
	upload
	progress
	hooks   Hooks
	request *srpc.CreateVmSpec
	m       *hypervisorv1.CreateVmRequest // which the handler waits for
}

func openCreate(h Hooks) func(wire.Talk) wire.Dialogue {
	return func(t wire.Talk) wire.Dialogue {
		c := &creation{upload: upload{talk: t}, hooks: h}
		return dialogue[*hypervisorv1.CreateVmRequest, *hypervisorv1.CreateVmResponse]{c.recv, c.send, func(failure error) error {
			err := c.drain()
			if failure == nil {
				return err
			}
			return join(err, t.Write(&CreateVmResponse{Error: t.Text(failure)}))
		}}
	}
}

func (c *creation) recv(m *hypervisorv1.CreateVmRequest) error {
	c.m = m
	if c.request != nil {
		return c.next()
	}
	c.request = new(srpc.CreateVmSpec)
	if err := c.talk.Read(c.request, false); err != nil {
		return err
	}
	if err := c.announce(); err != nil {
		return err
	}
	spec, err := srpc.CreateVmSpecToProto(*c.request)
	leaveToHost(spec.GetVmInfo())
	m.Part = &hypervisorv1.CreateVmRequest_Spec{Spec: spec}
	return fault.As(fault.InvalidArgument, err, "request")
}

// leaveToHost takes out of what is asked for what is the host's to say: clients that restore a saved VM send all that they were told of it.
func leaveToHost(info *hypervisorv1.VmInfo) {
	if info == nil { // the request could not be understood
		return
	}
	info.State, info.CreatedOn, info.ChangedStateOn, info.Uncommitted = hypervisorv1.State_STATE_UNSPECIFIED, nil, nil, false
}

// announce says what follows the request.
func (c *creation) announce() error {
	c.expect(c.request.ImageDataSize, func(p []byte) { c.m.Part = &hypervisorv1.CreateVmRequest_ImageData{ImageData: p} })
	c.expect(c.request.UserDataSize, func(p []byte) { c.m.Part = &hypervisorv1.CreateVmRequest_UserData{UserData: p} })
	if c.request.SecondaryVolumesData {
		var total uint64
		for _, v := range c.request.SecondaryVolumes {
			var over uint64
			if total, over = bits.Add64(total, v.Size, 0); over != 0 {
				return fault.New(fault.InvalidArgument, "SecondaryVolumes: more bytes than there are numbers for")
			}
		}
		c.expect(total, func(p []byte) { c.m.Part = &hypervisorv1.CreateVmRequest_SecondaryVolumeData{SecondaryVolumeData: p} })
	}
	c.begun()
	return nil
}

func (c *creation) send(m *hypervisorv1.CreateVmResponse) error {
	if !m.GetFinal() && !c.news(m.GetProgressMessage()) {
		return nil
	}
	ip, err := wire.IPToWire(m.GetIpAddress())
	if err != nil {
		return fault.As(fault.Internal, err, "ip_address")
	}
	if m.GetFinal() {
		c.hooks.Created(c.talk.Context(), m.GetIpAddress())
	}
	return c.talk.Write(&CreateVmResponse{DhcpTimedOut: m.GetDhcpTimedOut(), Final: m.GetFinal(), IpAddress: ip, ProgressMessage: m.GetProgressMessage()})
}

// progress leaves out messages that say nothing new: counts of bytes do not exist here.
type progress struct{ last string }

func (p *progress) news(text string) bool {
	if text == "" || text == p.last {
		return false
	}
	p.last = text
	return true
}
