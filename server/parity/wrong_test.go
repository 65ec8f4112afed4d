package parity_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// wrong is a request that a method must refuse: the VM is in the wrong state, or the request itself is bad.
type wrong struct {
	request func(ctx context.Context, w *world) proto.Message
	code    codes.Code
	// says is what the error must name.
	says string
}

// noInput are the methods that take nothing, so that nothing can be wrong.
var noInput = []string{"GetCapacity", "GetIdentityProvider", "GetPublicKey", "GetRootCookiePath", "ListVolumeDirectories", "SetDisabledState", "GetUpdates"}

// TestWrongRequestsAreRefused calls every Hypervisor method with a request that it must refuse, and looks whether the VM is as before.
func TestWrongRequestsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cases := wrongs()
	for _, m := range methods() {
		if m.ParentFile().Package() != "hyperplane.hypervisor.v1" {
			continue
		}
		name := string(m.Name())
		c, ok := cases[name]
		if !ok {
			if !slices.Contains(noInput, name) {
				t.Errorf("%s: no wrong request; write one", name)
			}
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			w := w.in(t)
			req := c.request(ctx, w)
			vm := named(req)
			var before *hypervisorv1.VmInfo
			if vm != "" && vm != nobody && vm != elsewhere {
				before = w.info(ctx, vm)
			}
			err := send(ctx, w.cc, fullMethod(m), m.IsStreamingClient(), m.IsStreamingServer(), req, dynamicpb.NewMessage(m.Output()))
			if status.Code(err) != c.code || !strings.Contains(status.Convert(err).Message(), c.says) {
				t.Errorf("%v, want %v and %q", err, c.code, c.says)
			}
			if before != nil && !proto.Equal(before, w.info(ctx, vm)) {
				t.Errorf("the VM has changed:\n%v\n%v", before, w.info(ctx, vm))
			}
		})
	}
}

// named returns the VM that a request names.
func named(req proto.Message) string {
	if r, ok := req.(interface{ GetVm() string }); ok {
		return r.GetVm()
	}
	return ""
}

// send makes a call, with one message if it is a stream, and returns how it ends.
func send(ctx context.Context, cc *grpc.ClientConn, method string, clients, servers bool, req, res proto.Message) error {
	if !clients && !servers {
		return cc.Invoke(ctx, method, req, res)
	}
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if err := stream.RecvMsg(res); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
