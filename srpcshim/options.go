package srpcshim

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// Options are the collaborators of a Mux. All but Streams, OpenReads and Limits are required.
type Options struct {
	Log *slog.Logger
	// Methods is the generated table of request/reply methods.
	Methods []wire.Method
	// Unary is the chain that every call runs through. It finds the caller with principal.From.
	Unary grpc.UnaryServerInterceptor
	// Streams are the stream methods that are served (package dialogue). The others of the schema answer with an error line.
	Streams []wire.Stream
	// Stream is the chain that every call of a stream method runs through.
	Stream grpc.StreamServerInterceptor
	// TLS is the configuration of secure endpoints. That client certificates are demanded is decided by OpenReads.
	TLS *tls.Config
	// Identify says whom a verified client certificate stands for.
	Identify func(*tls.ConnectionState) (principal.Principal, error)
	// MayCall checks what can be checked before the request is there: its error refuses the method line.
	MayCall func(ctx context.Context, fullMethod string) error
	// OpenReads serves callers without a certificate too, and the endpoints without TLS. What they may call is for MayCall to say.
	OpenReads bool
	Limits    Limits
}

// Limits bound what a client can make the server hold. Zero fields take the defaults.
type Limits struct {
	// Greeting is how long the CONNECT request may take, Handshake the TLS handshake.
	Greeting, Handshake time.Duration
	// Idle is how long a connection may rest between calls. Stock clients keep connections while people think.
	Idle time.Duration
	// Request is how long a method line with its request may take from its first byte, Reply how long the client may take to read an answer.
	Request, Reply time.Duration
	// Linger is how long a client may go on sending after an answer that ends the connection.
	Linger time.Duration
	// Drain is how long the call under way may go on after the server was told to end.
	Drain time.Duration
	// RequestBytes bounds one encoded request, FileBytes one of a method whose request carries files. What becomes much more than its bytes in
	// memory is refused whatever its length.
	RequestBytes, FileBytes int64
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&l.Greeting, 15*time.Second)
	set(&l.Handshake, time.Minute) // what stock clients allow
	set(&l.Idle, time.Hour)
	set(&l.Request, 2*time.Minute)
	set(&l.Reply, 2*time.Minute)
	set(&l.Linger, 2*time.Second)
	set(&l.Drain, 20*time.Second)
	if l.RequestBytes == 0 {
		l.RequestBytes = 2 << 20 // an address pool of 65536 addresses fits
	}
	if l.FileBytes == 0 {
		l.FileBytes = 16 << 20
	}
	return l
}

// request bounds one encoded request.
func (l Limits) request(files bool) int64 {
	if files {
		return l.FileBytes
	}
	return l.RequestBytes
}
