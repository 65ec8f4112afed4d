package vsphere

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// classify turns an error of the API, of HTTP or of TLS into a fault, with a text in front that names the object. Faults keep their code.
// It is the only place that looks at foreign errors.
func classify(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.Wrap(withoutURL(err), format, args...)
	}
	code, hint := diagnose(err)
	text := fmt.Sprintf(format, args...)
	if hint != "" {
		text += ": " + hint
	}
	return fault.As(code, withoutURL(err), "%s", text)
}

// withoutURL leaves out the URL of a failed request: the address of a disk is a key to its content.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// diagnose says what kind of failure err is and, where the API's own words do not, what to do.
func diagnose(err error) (fault.Code, string) {
	if f := vimFault(err); f != nil {
		return diagnoseVim(f)
	}
	if _, ok := errors.AsType[*certificateError](err); ok {
		return fault.FailedPrecondition, ""
	}
	if s, ok := errors.AsType[*statusError](err); ok {
		return s.diagnose()
	}
	err = withoutURL(err) // which is a net.Error whatever it holds
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.Unavailable, "the connection was cut"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return fault.Unavailable, "the host name cannot be resolved"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return fault.FailedPrecondition, "the server does not speak TLS on this port"
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return fault.Unavailable, "the server cannot be reached"
	}
	return fault.Internal, ""
}

// vimFault returns the fault of the API inside err, or nil.
func vimFault(err error) types.BaseMethodFault {
	type carrier interface {
		error
		Fault() types.BaseMethodFault
	}
	if c, ok := errors.AsType[carrier](err); ok {
		return c.Fault()
	}
	return nil
}

// diagnoseVim holds the faults that calls of this package are documented to throw. The order matters where one type extends another.
func diagnoseVim(f types.BaseMethodFault) (fault.Code, string) {
	switch f := f.(type) {
	case *types.InvalidLogin:
		return fault.Unauthenticated, "user name or password is wrong"
	case *types.NotAuthenticated:
		return fault.Unauthenticated, "the session has ended"
	case *types.NoPermission:
		return fault.PermissionDenied, fmt.Sprintf("the account lacks the privilege %s", f.PrivilegeId)
	case *types.RestrictedVersion:
		return fault.PermissionDenied, "the licence of the host does not allow changes through the API"
	case *types.ManagedObjectNotFound, *types.NotFound:
		return fault.NotFound, "it does not exist any more"
	case *types.ApplicationQuiesceFault, *types.FilesystemQuiesceFault, *types.ToolsUnavailable:
		return fault.FailedPrecondition, "the guest could not flush its file systems; check VMware Tools, or export without quiesce"
	case *types.MethodDisabled:
		return fault.FailedPrecondition, "the VM is locked for this, probably by a backup or another export; wait for it to end"
	case *types.TaskInProgress:
		return fault.Unavailable, "another task of the VM is running"
	case *types.ConcurrentAccess:
		return fault.Aborted, "the VM was changed at the same time"
	case *types.Timedout:
		return fault.Aborted, "it was not used for too long"
	case *types.RequestCanceled:
		return fault.Aborted, "somebody cancelled it at the server"
	case *types.NotSupported, *types.MethodNotFound, *types.NotImplemented:
		return fault.Unimplemented, "this server cannot do it"
	case types.BaseHostCommunication:
		return fault.Unavailable, "vCenter cannot reach the host"
	case types.BaseInsufficientResourcesFault, *types.NoDiskSpace:
		return fault.ResourceExhausted, "the platform has no room for it"
	case types.BaseSnapshotFault, types.BaseInvalidState, types.BaseFileFault, types.BaseVmConfigFault:
		return fault.FailedPrecondition, ""
	case *types.InvalidArgument, *types.InvalidName, *types.InvalidProperty:
		return fault.InvalidArgument, ""
	default:
		return fault.Internal, ""
	}
}

// sessionEnded reports whether err says that the caller is not logged in.
func sessionEnded(err error) bool {
	_, ended := vimFault(err).(*types.NotAuthenticated)
	return ended
}

// objectGone reports whether err says that a managed object does not exist.
func objectGone(err error) bool {
	_, gone := vimFault(err).(*types.ManagedObjectNotFound)
	return gone
}

// leaseGone reports whether err, from a call on a lease, says that the lease is over.
func leaseGone(err error) bool {
	switch vimFault(err).(type) {
	case *types.ManagedObjectNotFound, *types.Timedout, types.BaseInvalidState:
		return true
	default:
		return false
	}
}

// taskError is the failure of a task or a lease, as the API reports it.
type taskError struct{ types.LocalizedMethodFault }

func (e *taskError) Error() string {
	if e.LocalizedMessage != "" {
		return e.LocalizedMessage
	}
	return fmt.Sprintf("%T", e.LocalizedMethodFault.Fault)
}

// Fault gives the fault behind it.
func (e *taskError) Fault() types.BaseMethodFault { return e.LocalizedMethodFault.Fault }

// statusError is an HTTP answer that is none of the API or of a disk.
type statusError struct {
	status int
	host   string
	api    bool
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.host, e.status, http.StatusText(e.status))
}

func (e *statusError) diagnose() (fault.Code, string) {
	switch {
	case e.status >= 500 || e.status == http.StatusTooManyRequests:
		return fault.Unavailable, ""
	case e.api:
		return fault.FailedPrecondition, "there is no vSphere API at this address"
	case e.status == http.StatusUnauthorized:
		return fault.Unauthenticated, ""
	case e.status == http.StatusForbidden:
		return fault.PermissionDenied, ""
	case e.status == http.StatusNotFound:
		return fault.NotFound, ""
	default:
		return fault.Internal, ""
	}
}
