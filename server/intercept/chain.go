// Package intercept is what happens to every call on its way to a handler, on every transport: gRPC, REST and SRPC run the same chain.
// One interceptor a file.
package intercept

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// Deps are the collaborators of the chain.
type Deps struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Tokens   TokenChecker
	VMs      VMAuthorizer
	Rules    *Rules
	// OpenReads lets callers without a credential use the methods marked open_reads.
	OpenReads bool
	// LegacyAccess lets users who do not own a VM use the methods marked open_to_users.
	LegacyAccess bool
}

// interceptor is a step for both shapes of call.
type interceptor struct {
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

// Chain returns the chain. Its order, outermost first, and the reason for it:
//   - requestID: everything after it can log the id;
//   - observe: sees the final code of every call, refused ones included;
//   - errors: maps faults to statuses once, for all that follows;
//   - recover: a panic becomes a fault that errors maps;
//   - authenticate: who calls;
//   - access: may he, with the facts of the schema;
//   - validate: what every request must have.
func Chain(d Deps) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	steps := []interceptor{
		requestID(),
		observe(d.Log, newMetrics(d.Registry)),
		mapErrors(),
		recoverPanics(d.Log),
		authenticate(d.Tokens),
		checkAccess(gate{rules: d.Rules, vms: d.VMs, openReads: d.OpenReads, legacy: d.LegacyAccess}),
		validate(),
	}
	return chainUnary(steps), chainStream(steps)
}

func chainUnary(steps []interceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return callUnary(ctx, steps, req, info, handler)
	}
}

func callUnary(ctx context.Context, steps []interceptor, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if len(steps) == 0 {
		return handler(ctx, req)
	}
	return steps[0].unary(ctx, req, info, func(ctx context.Context, req any) (any, error) {
		return callUnary(ctx, steps[1:], req, info, handler)
	})
}

func chainStream(steps []interceptor) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return callStream(steps, srv, ss, info, handler)
	}
}

func callStream(steps []interceptor, srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if len(steps) == 0 {
		return handler(srv, ss)
	}
	return steps[0].stream(srv, ss, info, func(srv any, ss grpc.ServerStream) error {
		return callStream(steps[1:], srv, ss, info, handler)
	})
}

// withContext is a stream with another context.
type withContext struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a grpc.ServerStream hands out its context; there is no other way to change it
}

func (s *withContext) Context() context.Context { return s.ctx }
