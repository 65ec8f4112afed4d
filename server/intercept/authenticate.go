package intercept

import (
	"context"
	"strings"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// TokenChecker knows whom a bearer token stands for.
type TokenChecker interface {
	// CheckToken returns the principal, or an Unauthenticated fault.
	CheckToken(ctx context.Context, token string) (principal.Principal, error)
}

// Identified is what a transport's AuthInfo implements if the connection itself says who calls (client certificate, Unix socket).
// The principal is nobody if it does not.
type Identified interface{ Principal() principal.Principal }

// authenticate finds out who calls: what the transport says (SRPC, REST and connections), and a bearer token in place of it.
func authenticate(tokens TokenChecker) interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, err := identify(ctx, tokens)
			if err != nil {
				return nil, err
			}
			return handler(ctx, req)
		},
		stream: func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, err := identify(ss.Context(), tokens)
			if err != nil {
				return err
			}
			return handler(srv, &withContext{ss, ctx})
		},
	}
}

func identify(ctx context.Context, tokens TokenChecker) (context.Context, error) {
	p := connectionPrincipal(ctx)
	if token, ok := BearerToken(metadata.ValueFromIncomingContext(ctx, "authorization")); ok {
		byToken, err := tokens.CheckToken(ctx, token)
		if err != nil {
			return nil, err
		}
		byToken.Local = p.Local
		p = byToken
	}
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		c.user = p.Name
	}
	return principal.With(ctx, p), nil
}

// connectionPrincipal returns what the transport knows: put into the context by SRPC, into the in-process client's context by REST, or
// carried by the gRPC connection.
func connectionPrincipal(ctx context.Context) principal.Principal {
	if p, ok := principal.From(ctx); ok {
		return p
	}
	if client := inprocgrpc.ClientContext(ctx); client != nil {
		p, _ := principal.From(client)
		return p
	}
	if pr, ok := peer.FromContext(ctx); ok {
		if id, ok := pr.AuthInfo.(Identified); ok {
			return id.Principal()
		}
	}
	return principal.Principal{}
}

// BearerToken returns the token in the values of an Authorization header. Other schemes are not ours.
func BearerToken(values []string) (string, bool) {
	for _, v := range values {
		if scheme, token, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token), true
		}
	}
	return "", false
}

// ErrNoCredential is the refusal of a call without a credential.
func ErrNoCredential() error {
	return fault.New(fault.Unauthenticated, "no credential: use a client certificate, a bearer token or the Unix socket")
}
