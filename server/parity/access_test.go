package parity_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

// TestAccess calls every method of the schema as four kinds of caller and compares who is let in with the method's rules.
func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	callers := []struct { // those who are refused first: the others may destroy the VM
		name string
		cc   *grpc.ClientConn
	}{
		{"nobody", w.Dial(false)},
		{"stranger", w.DialAs(w.ClientCertificate("stranger"))},
		{"owner", w.DialAs(w.ClientCertificate("owner"))},
		{"powerful", w.DialAs(w.ClientCertificate("operator", "Hypervisor.*", "*Service.*"))},
	}
	for _, m := range methods() {
		t.Run(string(m.Parent().Name())+"."+string(m.Name()), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			vm := owned(ctx, w.in(t))
			for _, c := range callers {
				want := expected(intercept.MethodRules(m), c.name)
				err := knock(ctx, c.cc, m, vm)
				if m.IsStreamingClient() && status.Code(err) == codes.Unimplemented {
					continue // a stream that is not built ends before it has read whom it concerns
				}
				if got := verdict(err); got != want {
					t.Errorf("%s: %v (%v), want %v", c.name, got, err, want)
				}
			}
		})
	}
}

// owned makes a VM that "owner" owns too. It is named by its UUID: the address of one that is destroyed is another's at once.
func owned(ctx context.Context, w *world) string {
	w.t.Helper()
	vm := w.info(ctx, w.vm(ctx, false)).GetUuid()
	_, err := hypervisorv1.NewVmConfigurationServiceClient(w.cc).ChangeVmOwnerUsers(ctx, &hypervisorv1.ChangeVmOwnerUsersRequest{Vm: vm, OwnerUsers: []string{"owner"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return vm
}

// expected is what a method's rules say of a caller: OK = let in, whatever the method then answers.
func expected(r *optionsv1.MethodRules, caller string) codes.Code {
	need := r.GetAccess()
	if caller == "nobody" && need != optionsv1.Access_ACCESS_ANYBODY {
		return codes.Unauthenticated
	}
	if need == optionsv1.Access_ACCESS_PRIVATE {
		if caller != "powerful" {
			return codes.PermissionDenied
		}
		if r.GetVmAccess() != optionsv1.Access_ACCESS_UNSPECIFIED {
			return codes.PermissionDenied // power alone does not replace ownership there
		}
		return codes.OK
	}
	restricted := need == optionsv1.Access_ACCESS_OWNER || need == optionsv1.Access_ACCESS_OWNER_OR_TOKEN
	if restricted && caller == "stranger" {
		return codes.PermissionDenied
	}
	return codes.OK
}

// verdict reduces an error to whether the caller was let in. A refusal of the method's own, for another resource, is not one of access.
func verdict(err error) codes.Code {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unauthenticated:
		return codes.Unauthenticated
	case codes.PermissionDenied:
		if strings.Contains(s.Message(), "access to method denied") || strings.Contains(s.Message(), "no access to resource") {
			return codes.PermissionDenied
		}
	default:
	}
	return codes.OK
}

// silence is how long a stream that lets a caller in may say nothing.
const silence = 3 * time.Second

// knock calls a method with a request that names the VM, and nothing else, and returns how it ends.
func knock(ctx context.Context, cc *grpc.ClientConn, m protoreflect.MethodDescriptor, vm string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var req proto.Message = dynamicpb.NewMessage(m.Input())
	if m.Input().Fields().ByName("vm") != nil {
		req = naming(req, vm)
	}
	if !isStream(m) {
		return cc.Invoke(ctx, fullMethod(m), req, dynamicpb.NewMessage(m.Output()))
	}
	ctx, cancel = context.WithTimeout(ctx, silence)
	defer cancel()
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: m.IsStreamingServer(), ClientStreams: m.IsStreamingClient()}, fullMethod(m))
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(dynamicpb.NewMessage(m.Output()))
}
