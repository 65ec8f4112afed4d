package client

import (
	"context"
	"io"
	"net"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// pieceBytes is how much raw data a message carries at most.
const pieceBytes = 256 << 10

// getVmUserDataRequest is the request of GetVmUserData on the wire.
type getVmUserDataRequest struct {
	AccessToken []byte
	IpAddress   net.IP
}

// getVmUserDataResponse is its answer. Length raw bytes follow it.
type getVmUserDataResponse struct {
	Error  string
	Length uint64
}

// userDataStream is one GetVmUserData: a request, an answer, and the bytes. It has no status line.
type userDataStream struct {
	ctx     context.Context //nolint:containedctx // of one call
	conn    *Conn
	call    *call
	failure error
	told    bool   // the length was told
	length  uint64 // of the answer, until it is told
	left    uint64
}

// send makes the request. gRPC's streams with one request say with the first answer what was wrong with it.
func (u *userDataStream) send(m *hypervisorv1.GetVmUserDataRequest) error {
	u.failure = u.ask(m)
	return nil
}

func (u *userDataStream) ask(m *hypervisorv1.GetVmUserDataRequest) error {
	ip, err := wire.IPToWire(m.GetVm())
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "vm")
	}
	if u.call, err = u.conn.begin(u.ctx, "Hypervisor.GetVmUserData", false); err != nil {
		return err
	}
	var answer getVmUserDataResponse
	err = u.call.send(&getVmUserDataRequest{AccessToken: m.GetAccessToken(), IpAddress: ip})
	if err == nil {
		err = u.call.receive(&answer)
	}
	if err == nil && answer.Error != "" {
		err = saying(answer.Error)
	}
	if err != nil {
		u.call.end(err)
		return u.call.why(err)
	}
	u.length, u.left = answer.Length, answer.Length
	return nil
}

func (u *userDataStream) recv(m *hypervisorv1.GetVmUserDataResponse) error {
	switch {
	case u.failure != nil:
		return u.failure
	case !u.told:
		u.told, m.Length = true, u.length
		if u.left == 0 {
			u.call.end(nil)
			u.failure = io.EOF
		}
		return nil
	}
	m.Data = make([]byte, min(u.left, pieceBytes))
	if _, err := io.ReadFull(u.call.in, m.GetData()); err != nil {
		u.call.end(unexpected(err))
		u.failure = u.call.why(unexpected(err))
		return u.failure
	}
	if u.left -= uint64(len(m.GetData())); u.left == 0 {
		u.call.end(nil)
		u.failure = io.EOF
	}
	return nil
}
