// Package exit says with which code a command line tool ends, and how it says what went wrong.
package exit

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The exit codes of all tools. Help is their text for people.
const (
	OK           = 0
	Failed       = 1
	Usage        = 2
	NotFound     = 3
	Refused      = 4
	Unavailable  = 5
	Precondition = 6
	Interrupted  = 130
)

// Help describes the codes.
const Help = `Exit codes: 0 done; 1 failed; 2 wrong flags or arguments, or a request that the server calls invalid; 3 no such thing;
4 no credential or no permission; 5 the server or the source can not be reached; 6 not possible in this state, or exists already;
130 interrupted.`

// Code returns the exit code for an error.
func Code(err error) int {
	if err == nil {
		return OK
	}
	switch codeOf(err) {
	case fault.InvalidArgument, fault.OutOfRange:
		return Usage
	case fault.NotFound:
		return NotFound
	case fault.PermissionDenied, fault.Unauthenticated:
		return Refused
	case fault.Unavailable, fault.DeadlineExceeded:
		return Unavailable
	case fault.FailedPrecondition, fault.AlreadyExists, fault.Aborted:
		return Precondition
	case fault.Canceled:
		return Interrupted
	default:
		return Failed
	}
}

func codeOf(err error) fault.Code {
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return fault.Code(s.Code())
	}
	return fault.CodeOf(err)
}

// Report writes what went wrong, in one line, and returns the exit code.
func Report(w io.Writer, tool string, err error) int {
	if err == nil {
		return OK
	}
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	fmt.Fprintf(w, "%s: %s\n", tool, text)
	return Code(err)
}
