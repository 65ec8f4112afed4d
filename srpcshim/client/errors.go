package client

import (
	"errors"
	"io"
	"strings"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// peerError is a peer's no, whose text ended where it should: the connection is good.
type peerError struct{ error }

// Unwrap returns the fault.
func (e *peerError) Unwrap() error { return e.error }

// saying is the error with a text of the peer.
func saying(text string) error {
	return &peerError{fault.New(codeOf(text), "%s", printable(text))}
}

// codeOf says what kind of failure a text of the peer is. Nowhere else in the project are errors told apart by their text; here there is nothing else: a reply of
// the protocol has a free text and no code. Only texts that the protocol's own clients rely on, or that its servers have always used, are known; everything
// else is Unknown, so that a server with other words makes an error vague, never wrong.
func codeOf(text string) fault.Code {
	if named, rest, ok := strings.Cut(text, `": `); ok && strings.HasPrefix(named, `vm "`) {
		text = rest // Hyperplane, asked over SRPC, says first which VM is meant
	}
	for _, known := range []struct {
		prefix string
		code   fault.Code
	}{
		{"no VM with IP address", fault.NotFound},
		{"no access to resource", fault.PermissionDenied},
		{"access to method denied", fault.PermissionDenied},
		{"VM is not ", fault.FailedPrecondition}, // stopped, running …
		{"mutations blocked", fault.FailedPrecondition},
		{"Hypervisor is disabled", fault.FailedPrecondition},
		{"no free addresses in pool", fault.ResourceExhausted},
		{"unknown service", fault.Unimplemented},
		{"Hypervisor: unknown method", fault.Unimplemented},
	} {
		if strings.HasPrefix(text, known.prefix) {
			return known.code
		}
	}
	return fault.Unknown
}

// printable keeps a foreign text from being more than one line of text.
func printable(text string) string {
	const most = 2 << 10
	text = strings.ToValidUTF8(text[:min(len(text), most)], "?")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// toStatus makes an error one that callers of a gRPC connection expect. The end of a stream is none.
func toStatus(err error) error {
	if _, failed := errors.AsType[*fault.Error](err); !failed && (err == nil || errors.Is(err, io.EOF)) {
		return err
	}
	return status.Error(codes.Code(fault.CodeOf(err)), err.Error()) //nolint:forbidigo // whoever calls through a gRPC connection expects a status
}
