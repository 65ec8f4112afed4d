package wire

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"
)

// Stream is a method that is not one request and one reply.
type Stream struct {
	// FullMethod is gRPC's name, /package.Service/Method.
	FullMethod string
	// Files says that the request carries files, so that it may be large.
	Files bool
	// Open begins one call.
	Open func(Talk) Dialogue
}

// Dialogue is what one call of a stream method says on the wire: it turns what comes into the messages that the handler receives, and those
// that the handler sends into what goes. Recv and Send may be called at the same time, each by one goroutine.
type Dialogue interface {
	// Recv fills the handler's next message. io.EOF says that the client has no more to say.
	Recv(m proto.Message) error
	// Send says what the handler sends.
	Send(m proto.Message) error
	// End is called when the handler has returned, with its error. It says what is left to be said, and takes what the client still sends. Its
	// error ends the connection; ErrAgain calls the handler once more. Without an error the next call may come.
	End(failure error) error
}

// Header is a Dialogue that wants to know that the handler has begun its work without having sent anything.
type Header interface {
	SendHeader() error
}

// ErrAgain is an End's error that calls the handler once more with the same Dialogue.
var ErrAgain = errors.New("call the handler again")

// ErrClose is an End's error that ends the connection without anything being wrong.
var ErrClose = errors.New("the connection ends with this call")

// Talk is the connection as one call of a stream method sees it. Messages are encoded as the connection's codec says; type definitions travel
// once in each direction of a call.
type Talk interface {
	// Context is the handler's context. It ends when the client is lost.
	Context() context.Context
	// Read takes the next message, as long as that takes if patient, otherwise within the time for a request.
	Read(message any, patient bool) error
	// ReadRaw reads raw bytes that follow a message, some of them, as long as that takes if patient.
	ReadRaw(p []byte, patient bool) (int, error)
	// Hurry bounds the time of all that is read from now on, patiently or not, by the time for a request.
	Hurry()
	// Write says messages and raw bytes ([]byte values) in one go.
	Write(parts ...any) error
	// Share says a message that other calls may say too: all that give an equal key, which must be comparable. It is made and encoded for the first of them;
	// it may be forgotten and made again.
	Share(key any, build func() (message any, err error)) error
	// Attend watches, from now until the next read or the end of the handler, that the client stays.
	Attend()
	// Cancel ends the handler's context.
	Cancel()
	// Text is what the client gets to see of an error.
	Text(err error) string
}
