package intercept

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// mapErrors is the one place where an error of the domain becomes a gRPC status. Statuses that handlers received from elsewhere pass.
func mapErrors() interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			res, err := handler(ctx, req)
			return res, Status(err)
		},
		stream: func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return Status(handler(srv, ss))
		},
	}
}

// Status returns err as a gRPC status error, with the code of the fault in it.
func Status(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); !ok {
		if s, ok := status.FromError(err); ok {
			return s.Err()
		}
	}
	return status.Error(codes.Code(fault.CodeOf(err)), err.Error()) //nolint:forbidigo // this is the one place
}
