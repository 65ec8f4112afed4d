package vsphere

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	vim := func(f types.BaseMethodFault) error { return soap.WrapVimFault(f) }
	overHTTP := func(err error) error {
		return &url.Error{Op: "Get", URL: "https://vc/nfc/52secret/disk-0.vmdk", Err: err}
	}
	for _, test := range []struct {
		err  error
		want fault.Code
	}{
		{vim(&types.InvalidLogin{}), fault.Unauthenticated},
		{vim(&types.NotAuthenticated{}), fault.Unauthenticated},
		{vim(&types.NoPermission{}), fault.PermissionDenied},
		{vim(&types.ManagedObjectNotFound{}), fault.NotFound},
		{vim(&types.InvalidPowerState{}), fault.FailedPrecondition},
		{vim(&types.ApplicationQuiesceFault{}), fault.FailedPrecondition},
		{vim(&types.SnapshotDisabled{}), fault.FailedPrecondition},
		{vim(&types.FileLocked{}), fault.FailedPrecondition},
		{vim(&types.TaskInProgress{}), fault.Unavailable},
		{vim(&types.HostNotConnected{}), fault.Unavailable},
		{vim(&types.NoDiskSpace{}), fault.ResourceExhausted},
		{vim(&types.MethodNotFound{}), fault.Unimplemented},
		{vim(&types.Timedout{}), fault.Aborted},
		{vim(&types.SystemError{}), fault.Internal},
		{fmt.Errorf("task: %w", &taskError{types.LocalizedMethodFault{Fault: &types.NoPermission{}}}), fault.PermissionDenied},
		{&statusError{status: 503}, fault.Unavailable},
		{&statusError{status: 404}, fault.NotFound},
		{&statusError{status: 404, api: true}, fault.FailedPrecondition},
		{overHTTP(&statusError{status: 502, api: true}), fault.Unavailable},
		{overHTTP(http.ErrSchemeMismatch), fault.FailedPrecondition},
		{overHTTP(&net.OpError{Op: "dial", Err: errors.New("refused")}), fault.Unavailable},
		{overHTTP(&net.DNSError{Name: "vc"}), fault.Unavailable},
		{io.ErrUnexpectedEOF, fault.Unavailable},
		{overHTTP(context.Canceled), fault.Canceled},
		{context.DeadlineExceeded, fault.DeadlineExceeded},
		{fault.New(fault.OutOfRange, "x"), fault.OutOfRange},
		{errors.New("something new"), fault.Internal},
	} {
		got := classify(test.err, "vm %q", "web")
		if fault.CodeOf(got) != test.want {
			t.Errorf("%v becomes code %d, want %d", test.err, fault.CodeOf(got), test.want)
		}
		if !errors.Is(got, test.err) && errors.Unwrap(test.err) == nil {
			t.Errorf("%v is not in the chain of %v", test.err, got)
		}
		if text := got.Error(); !strings.HasPrefix(text, `vm "web"`) || strings.Contains(text, "secret") {
			t.Errorf("text: %s", text)
		}
	}
	if classify(nil, "x") != nil {
		t.Error("no error becomes one")
	}
}
