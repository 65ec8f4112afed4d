package intercept

import (
	"context"

	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// validate refuses what no handler can use: a request about a VM that names none.
func validate() interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := validateRequest(req); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		},
		stream: func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &validatedStream{ServerStream: ss})
		},
	}
}

func validateRequest(req any) error {
	if vm, ok := req.(vmRequest); ok && vm.GetVm() == "" {
		return fault.New(fault.InvalidArgument, "vm: is empty; give the VM's IP address, UUID or name")
	}
	return nil
}

// validatedStream checks the first message.
type validatedStream struct {
	grpc.ServerStream
	checked bool
}

func (s *validatedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil || s.checked {
		return err
	}
	s.checked = true
	return validateRequest(m)
}
