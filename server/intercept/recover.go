package intercept

import (
	"context"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// recoverPanics turns a panic of a handler into an Internal fault that tells the caller nothing, and logs the stack.
func recoverPanics(log *slog.Logger) interceptor {
	caught := func(ctx context.Context, method string, r any) error {
		log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("method", method), slog.Any("panic", r),
			slog.String("request_id", RequestID(ctx)), slog.String("stack", string(debug.Stack())))
		return fault.New(fault.Internal, "internal error; the server's log has it under request id %s", RequestID(ctx))
	}
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (res any, err error) {
			defer func() {
				if r := recover(); r != nil {
					res, err = nil, caught(ctx, info.FullMethod, r)
				}
			}()
			return handler(ctx, req)
		},
		stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			defer func() {
				if r := recover(); r != nil {
					err = caught(ss.Context(), info.FullMethod, r)
				}
			}()
			return handler(srv, ss)
		},
	}
}
