package dialogue

import (
	"net"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// GetVmUserDataRequest is the request of GetVmUserData.
type GetVmUserDataRequest struct {
	AccessToken []byte
	IpAddress   net.IP
}

// GetVmUserDataResponse is the answer of GetVmUserData. Length raw bytes follow it.
type GetVmUserDataResponse struct {
	Error  string
	Length uint64
}

func openGetUserData(t wire.Talk) wire.Dialogue {
	f := &file{talk: t, sorry: func(text string) any { return &GetVmUserDataResponse{Error: text} }}
	return dialogue[*hypervisorv1.GetVmUserDataRequest, *hypervisorv1.GetVmUserDataResponse]{
		asked(t, func(w GetVmUserDataRequest) (*hypervisorv1.GetVmUserDataRequest, error) {
			vm, err := wire.IPToProto(w.IpAddress)
			return &hypervisorv1.GetVmUserDataRequest{AccessToken: w.AccessToken, Vm: vm}, err
		}),
		func(m *hypervisorv1.GetVmUserDataResponse) error {
			return f.send(m.GetLength(), m.GetData(), func(length uint64) any { return &GetVmUserDataResponse{Length: length} })
		},
		f.end,
	}
}

// ReplaceVmUserDataRequest is the request of ReplaceVmUserData. Size raw bytes follow it.
type ReplaceVmUserDataRequest struct {
	IpAddress net.IP
	Size      uint64
}

// ErrorResponse is an answer that says nothing but whether something went wrong.
type ErrorResponse struct{ Error string }

// openReplaceUserData: the request and the upload; a status line and the answer.
func openReplaceUserData(t wire.Talk) wire.Dialogue {
	u, request := &upload{talk: t}, (*ReplaceVmUserDataRequest)(nil)
	var waiting *hypervisorv1.ReplaceVmUserDataRequest
	return dialogue[*hypervisorv1.ReplaceVmUserDataRequest, *hypervisorv1.ReplaceVmUserDataResponse]{
		func(m *hypervisorv1.ReplaceVmUserDataRequest) (err error) {
			waiting = m
			if request != nil {
				return u.next()
			}
			request = new(ReplaceVmUserDataRequest)
			if err := t.Read(request, false); err != nil {
				return err
			}
			u.expect(request.Size, func(p []byte) { waiting.Data = p })
			u.begun()
			m.Size = request.Size
			m.Vm, err = wire.IPToProto(request.IpAddress)
			return fault.Wrap(err, "request: IpAddress")
		},
		func(*hypervisorv1.ReplaceVmUserDataResponse) error { return nil }, // said at the end
		func(failure error) error {
			err := u.drain()
			reply := new(ErrorResponse)
			if failure != nil {
				reply.Error = t.Text(failure)
			}
			return join(err, t.Write([]byte("\n"), reply))
		},
	}
}
