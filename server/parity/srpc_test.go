package parity_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// srpcTransports returns the SRPC transports.
func srpcTransports(w *world) map[string]transport {
	methods := make(map[string]wire.Method)
	for _, m := range srpc.Methods() {
		methods[m.FullMethod] = m
	}
	return map[string]transport{
		"SRPC gob":  srpcTransport{w, srpctest.SecureGob, methods},
		"SRPC JSON": srpcTransport{w, srpctest.SecureJSON, methods},
	}
}

// srpcTransport is SRPC over TLS with the admin certificate, a connection a call.
type srpcTransport struct {
	w       *world
	path    string
	methods map[string]wire.Method
}

func (t srpcTransport) call(ctx context.Context, d protoreflect.MethodDescriptor, req proto.Message) (proto.Message, error) {
	m, ok := t.methods[fullMethod(d)]
	if !ok {
		return nil, fmt.Errorf("%s is not in the generated table", d.FullName())
	}
	c, err := srpctest.Dial(ctx, t.w.t, "tcp", t.w.Addr, t.path, t.w.TLS(true))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	concrete, err := typed(req)
	if err != nil {
		return nil, err
	}
	out, err := m.Request.Wire(concrete)
	if err != nil {
		return nil, err
	}
	in := m.Reply.New()
	if err := c.Call(m.Service+"."+m.Name, out, in); err != nil {
		return nil, srpcStatus(err)
	}
	if failed, ok := in.(wire.ErrorReply); ok && failed.ErrorText() != "" {
		return nil, srpcStatus(&srpctest.Refused{Text: failed.ErrorText()})
	}
	return m.Reply.Proto(in)
}

// typed returns a message as its generated Go type.
func typed(m proto.Message) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(m.ProtoReflect().Descriptor().FullName())
	if err != nil {
		return nil, err
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	concrete := kind.New().Interface()
	return concrete, proto.Unmarshal(raw, concrete)
}

// srpcStatus gives an error of SRPC, which is text, the one code that the parity test asks for.
func srpcStatus(err error) error {
	refused, ok := errors.AsType[*srpctest.Refused](err)
	if !ok {
		return err
	}
	if strings.Contains(refused.Text, "not implemented") {
		return status.Error(codes.Unimplemented, refused.Text)
	}
	return status.Error(codes.Unknown, refused.Text)
}

// TestSRPCSaysWhatIsNotThere calls methods that do not exist.
func TestSRPCSaysWhatIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, err := srpctest.Dial(t.Context(), t, "tcp", w.Addr, srpctest.SecureGob, w.TLS(true))
	if err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]string{
		"Hypervisor.Nothing":  "Hypervisor: unknown method: Nothing",
		"VmService.GetVmInfo": "unknown service: VmService",
	} {
		if err := c.Start(method); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", method, err, want)
		}
	}
}

// TestSRPCThroughTheAdminSocket: whoever may open the socket is administrator, on this transport too, and needs no TLS.
func TestSRPCThroughTheAdminSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := srpctest.Dial(t.Context(), t, "tcp", w.Addr, srpctest.PlainGob, nil); err == nil || !strings.Contains(err.Error(), "405") {
		t.Errorf("TCP without TLS: %v", err)
	}
	c, err := srpctest.Dial(t.Context(), t, "unix", w.Socket, srpctest.PlainGob, nil)
	if err != nil {
		t.Fatal(err)
	}
	var reply srpctest.ErrorReply
	// Private methods: they get as far as their requests' decoding, and their handlers.
	if err := c.Call("Hypervisor.HoldLock", srpctest.VMRequest{DhcpTimeout: 1}, &reply); err == nil || !strings.Contains(err.Error(), "gob") {
		t.Errorf("%v, %q", err, reply.Error)
	}
	if err := c.Call("Hypervisor.SetDisabledState", struct{ Disable bool }{true}, &reply); err != nil || reply.Error != "" {
		t.Errorf("%v, %q", err, reply.Error)
	}
}
