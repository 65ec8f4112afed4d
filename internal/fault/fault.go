// Package fault is the one error vocabulary of Hyperplane.
//
// A fault carries a code named after gRPC's, a text that says which object is concerned, what is wrong and what to do about it,
// and the error that caused it. The server's edge maps the code to a gRPC status; the gateway and the SRPC shim take it from there.
// Every driver and vendor has one classify function that turns foreign errors into faults; nothing is matched by text, but what
// peers of SRPC say, which have nothing else (srpcshim/client).
package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Code says what kind of failure an error is. Values and meaning are those of google.golang.org/grpc/codes,
// repeated here so that packages that know nothing of gRPC can use them.
type Code uint32

// The codes, with gRPC's numbers.
const (
	OK                 Code = 0
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
)

// Error is an error with a code. Make one with New or Wrap.
type Error struct {
	code  Code
	msg   string
	cause error
}

// Error returns the text, followed by the cause's text if there is a cause.
func (e *Error) Error() string {
	switch {
	case e.cause == nil:
		return e.msg
	case e.msg == "":
		return e.cause.Error()
	default:
		return e.msg + ": " + e.cause.Error()
	}
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Code returns the error's code.
func (e *Error) Code() Code { return e.code }

// New makes an error with the given code. The text names the object first: `vm "web": is running; stop it first`.
func New(code Code, format string, args ...any) error {
	return &Error{code: code, msg: fmt.Sprintf(format, args...)}
}

// Wrap gives err a text in front and keeps its code. Wrap of nil is nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{code: CodeOf(err), msg: fmt.Sprintf(format, args...), cause: err}
}

// As gives err the stated code, with a text in front. As of nil is nil.
func As(code Code, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{code: code, msg: fmt.Sprintf(format, args...), cause: err}
}

// CodeOf returns the code of the outermost fault in err's chain. Errors that are no faults are classified where the standard library
// says what they are: a context's end, a missing or existing file, refused permission, a full disk. Everything else is Unknown; nil is OK.
func CodeOf(err error) Code {
	if err == nil {
		return OK
	}
	if f, ok := errors.AsType[*Error](err); ok {
		return f.code
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return ResourceExhausted
	case errors.Is(err, fs.ErrNotExist):
		return NotFound
	case errors.Is(err, fs.ErrExist):
		return AlreadyExists
	case errors.Is(err, fs.ErrPermission):
		return PermissionDenied
	default:
		return Unknown
	}
}

// Is reports whether err has the given code.
func Is(err error, code Code) bool { return CodeOf(err) == code }
