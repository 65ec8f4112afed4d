package userdata_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/userdata"
)

// oneVM is a host with one VM, "web".
type oneVM struct {
	dir  string
	held bool
}

func (v *oneVM) Info(ref string) (*hypervisorv1.VmInfo, error) {
	if ref != "web" {
		return nil, fault.New(fault.NotFound, "vm %q: no such VM", ref)
	}
	return &hypervisorv1.VmInfo{Uuid: "u"}, nil
}

func (v *oneVM) Acquire(_ context.Context, ref string) (*hypervisorv1.LocalVmInfo, func(), error) {
	info, err := v.Info(ref)
	if err != nil {
		return nil, nil, err
	}
	v.held = true
	return &hypervisorv1.LocalVmInfo{VmInfo: info}, func() { v.held = false }, nil
}

func (v *oneVM) Directory(uuid string) (string, error) {
	if uuid != "u" {
		return "", fault.New(fault.Internal, "directory of %q", uuid)
	}
	return v.dir, nil
}

func newService(t *testing.T) (*userdata.Service, *oneVM) {
	t.Helper()
	v := &oneVM{dir: t.TempDir()}
	return &userdata.Service{VMs: v, Operations: v}, v
}

type uploading struct {
	grpc.ServerStream
	ctx      context.Context
	messages []*hypervisorv1.ReplaceVmUserDataRequest
	broken   error // after the messages, in place of their end
	answered bool
}

func (u *uploading) Context() context.Context { return u.ctx }

func (u *uploading) Recv() (*hypervisorv1.ReplaceVmUserDataRequest, error) {
	if len(u.messages) == 0 {
		if u.broken != nil {
			return nil, u.broken
		}
		return nil, io.EOF
	}
	m := u.messages[0]
	u.messages = u.messages[1:]
	return m, nil
}

func (u *uploading) SendAndClose(*hypervisorv1.ReplaceVmUserDataResponse) error {
	u.answered = true
	return nil
}

func message(vm string, size uint64, data string) *hypervisorv1.ReplaceVmUserDataRequest {
	return &hypervisorv1.ReplaceVmUserDataRequest{Vm: vm, Size: size, Data: []byte(data)}
}

func replace(t *testing.T, s *userdata.Service, messages ...*hypervisorv1.ReplaceVmUserDataRequest) error {
	t.Helper()
	u := &uploading{ctx: t.Context(), messages: messages}
	err := s.ReplaceVmUserData(u)
	if (err == nil) != u.answered {
		t.Errorf("answered: %v, error: %v", u.answered, err)
	}
	return err
}

type downloading struct {
	grpc.ServerStream
	first bool
	want  uint64
	got   bytes.Buffer
}

func (d *downloading) Send(m *hypervisorv1.GetVmUserDataResponse) error {
	if !d.first {
		d.first, d.want = true, m.GetLength()
	} else if m.GetLength() != 0 {
		return errors.New("length in a later message")
	}
	d.got.Write(m.GetData())
	return nil
}

func content(t *testing.T, s *userdata.Service) string {
	t.Helper()
	d := new(downloading)
	if err := s.GetVmUserData(&hypervisorv1.GetVmUserDataRequest{Vm: "web"}, d); err != nil {
		t.Fatal(err)
	}
	if !d.first || d.want != uint64(d.got.Len()) {
		t.Errorf("length %d announced, %d bytes sent", d.want, d.got.Len())
	}
	return d.got.String()
}

func restore(t *testing.T, s *userdata.Service) error {
	t.Helper()
	_, err := s.RestoreVmUserData(t.Context(), &hypervisorv1.RestoreVmUserDataRequest{Vm: "web"})
	return err
}
