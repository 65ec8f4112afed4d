package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// classify turns an error of libvirt, of go-libvirt or of a connection into a fault with a text in front. Faults keep their code.
func classify(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fault.As(codeOf(err), err, "%s", fmt.Sprintf(format, args...))
}

func codeOf(err error) fault.Code {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Code()
	}
	if e, ok := errors.AsType[golibvirt.Error](err); ok {
		return codeOfNumber(golibvirt.ErrorNumber(e.Code))
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fault.CodeOf(err)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return fault.Unavailable
	}
	switch {
	case errors.Is(err, golibvirt.ErrUnsupported):
		return fault.Unimplemented
	case errors.Is(err, golibvirt.ErrInterrupted), // the connection was lost while a call waited for its answer
		errors.Is(err, syscall.EINVAL), // go-libvirt's answer to a call on a lost connection
		errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EPIPE):
		return fault.Unavailable
	default:
		return fault.Internal
	}
}

// codeOfNumber translates virErrorNumber (libvirt's include/libvirt/virterror.h).
func codeOfNumber(n golibvirt.ErrorNumber) fault.Code {
	switch n {
	case golibvirt.ErrNoDomain, golibvirt.ErrNoNetwork, golibvirt.ErrNoDomainMetadata, golibvirt.ErrDeviceMissing:
		return fault.NotFound
	case golibvirt.ErrDomExist, golibvirt.ErrNetworkExist:
		return fault.AlreadyExists
	case golibvirt.ErrInvalidArg, golibvirt.ErrXMLError, golibvirt.ErrXMLDetail, golibvirt.ErrXMLInvalidSchema, golibvirt.ErrInvalidMac,
		golibvirt.ErrOverflow:
		return fault.InvalidArgument
	case golibvirt.ErrOperationInvalid, golibvirt.ErrConfigUnsupported, golibvirt.ErrBlockCopyActive, golibvirt.ErrResourceBusy,
		golibvirt.ErrNetworkPortExist:
		return fault.FailedPrecondition
	case golibvirt.ErrNoSupport, golibvirt.ErrOperationUnsupported, golibvirt.ErrArgumentUnsupported:
		return fault.Unimplemented
	case golibvirt.ErrOperationDenied, golibvirt.ErrAuthFailed, golibvirt.ErrAuthCancelled, golibvirt.ErrAuthUnavailable,
		golibvirt.ErrAccessDenied:
		return fault.PermissionDenied
	case golibvirt.ErrOperationTimeout, golibvirt.ErrAgentUnresponsive, golibvirt.ErrAgentCommandTimeout:
		return fault.DeadlineExceeded
	case golibvirt.ErrOperationAborted:
		return fault.Aborted
	case golibvirt.ErrNoMemory:
		return fault.ResourceExhausted
	case golibvirt.ErrNoConnect, golibvirt.ErrInvalidConn, golibvirt.ErrRPC:
		return fault.Unavailable
	default:
		return fault.Internal
	}
}

// isLibvirtError reports whether libvirt itself refused something, as opposed to a call that did not reach it.
func isLibvirtError(err error) bool {
	_, ok := errors.AsType[golibvirt.Error](err)
	return ok
}

// isNumber reports whether err is libvirt's error with the given number.
func isNumber(err error, n golibvirt.ErrorNumber) bool {
	e, ok := errors.AsType[golibvirt.Error](err)
	return ok && golibvirt.ErrorNumber(e.Code) == n
}
