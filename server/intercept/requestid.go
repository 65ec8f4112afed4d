package intercept

import (
	"context"
	"sync"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// RequestIDKey is the metadata key, and in lower case the HTTP header, of a request's id.
const RequestIDKey = "x-request-id"

const maxRequestID = 64

// call is what the chain knows of a call. There is one for each, so that the context is wrapped once.
type call struct {
	given string // the caller's own request id, or empty
	made  sync.Once
	id    string
	user  string
}

type callKey struct{}

// RequestID returns the id of the call that the context belongs to.
func RequestID(ctx context.Context) string {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return ""
	}
	c.made.Do(func() {
		if c.id = c.given; c.id == "" {
			c.id = uuid.NewString() // most calls go well and are not logged: they need none
		}
	})
	return c.id
}

// requestID gives each call an id: the caller's own if it is printable and short, otherwise a random one.
func requestID() interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(withRequestID(ctx), req)
		},
		stream: func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &withContext{ss, withRequestID(ss.Context())})
		},
	}
}

func withRequestID(ctx context.Context) context.Context {
	c := new(call)
	if given := metadata.ValueFromIncomingContext(ctx, RequestIDKey); len(given) > 0 && plain(given[0]) {
		c.given = given[0]
	}
	return context.WithValue(ctx, callKey{}, c)
}

func plain(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
