package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	number := func(n golibvirt.ErrorNumber) error { return golibvirt.Error{Code: uint32(n), Message: "text"} }
	for _, test := range []struct {
		err  error
		want fault.Code
	}{
		{nil, fault.OK},
		{number(golibvirt.ErrNoDomain), fault.NotFound},
		{fmt.Errorf("wrapped: %w", number(golibvirt.ErrNoNetwork)), fault.NotFound},
		{number(golibvirt.ErrOperationInvalid), fault.FailedPrecondition},
		{number(golibvirt.ErrConfigUnsupported), fault.FailedPrecondition},
		{number(golibvirt.ErrXMLInvalidSchema), fault.InvalidArgument},
		{number(golibvirt.ErrNoSupport), fault.Unimplemented},
		{number(golibvirt.ErrAuthFailed), fault.PermissionDenied},
		{number(golibvirt.ErrOperationTimeout), fault.DeadlineExceeded},
		{number(golibvirt.ErrOperationAborted), fault.Aborted},
		{number(golibvirt.ErrNoMemory), fault.ResourceExhausted},
		{number(golibvirt.ErrRPC), fault.Unavailable},
		{number(golibvirt.ErrDomExist), fault.AlreadyExists},
		{number(golibvirt.ErrInternalError), fault.Internal},
		{number(9999), fault.Internal},
		{golibvirt.ErrInterrupted, fault.Unavailable},
		{golibvirt.ErrUnsupported, fault.Unimplemented},
		{syscall.EINVAL, fault.Unavailable},
		{io.EOF, fault.Unavailable},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, fault.Unavailable},
		{&net.OpError{Op: "dial", Err: context.Canceled}, fault.Canceled},
		{context.DeadlineExceeded, fault.DeadlineExceeded},
		{fault.New(fault.AlreadyExists, "taken"), fault.AlreadyExists},
		{errors.New("anything"), fault.Internal},
	} {
		got := classify(test.err, "machine %q", "x")
		if fault.CodeOf(got) != test.want || (test.err != nil && !errors.Is(got, test.err)) {
			t.Errorf("%v: code %d, not %d (%v)", test.err, fault.CodeOf(got), test.want, got)
		}
	}
	if !isNumber(classify(number(golibvirt.ErrNoDomain), "x"), golibvirt.ErrNoDomain) || isNumber(io.EOF, golibvirt.ErrNoDomain) {
		t.Error("isNumber is wrong")
	}
}
