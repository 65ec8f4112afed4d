package intercept

import (
	"context"

	"google.golang.org/grpc"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// VMAuthorizer knows who owns a VM.
type VMAuthorizer interface {
	// AuthorizeVM returns nil if the principal owns the VM, or if token is not nil and the VM's current access token. NotFound if there is no
	// such VM, PermissionDenied otherwise.
	AuthorizeVM(ctx context.Context, vm string, p principal.Principal, token []byte) error
}

type vmRequest interface{ GetVm() string }

type tokenRequest interface{ GetAccessToken() []byte }

// checkAccess enforces the access rules of the schema. On a stream that concerns a VM the rule is checked with its first message.
func checkAccess(g gate) interceptor {
	return interceptor{
		unary: func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			r := g.rules.of(info.FullMethod)
			ctx, err := g.enter(ctx, r)
			if err != nil {
				return nil, err
			}
			if err := g.checkVM(ctx, r, req); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		},
		stream: func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			r := g.rules.of(info.FullMethod)
			ctx, err := g.enter(ss.Context(), r)
			if err != nil {
				return err
			}
			return handler(srv, &gatedStream{withContext: withContext{ss, ctx}, gate: g, rules: r})
		},
	}
}

type gate struct {
	rules *Rules
	vms   VMAuthorizer
	// openReads and legacy open what the schema lets them open: to callers without a credential, and to users who do not own the VM.
	openReads, legacy bool
}

// enter checks what can be checked without the request, and puts the caller into the context.
func (g gate) enter(ctx context.Context, r methodRules) (context.Context, error) {
	p, _ := principal.From(ctx)
	caller := principal.Caller{Principal: p, Power: g.rules.power(p, r)}
	anybody := r.GetAccess() == optionsv1.Access_ACCESS_ANYBODY || (g.openReads && r.GetOpenReads())
	if !p.Authenticated() && !anybody {
		return nil, ErrNoCredential()
	}
	if r.GetAccess() == optionsv1.Access_ACCESS_PRIVATE && !caller.Power {
		return nil, fault.New(fault.PermissionDenied, "access to method denied")
	}
	if r.GetLocalOnly() && !p.Local {
		return nil, fault.New(fault.PermissionDenied, "method may only be called on the host itself, through the Unix socket or a loopback address")
	}
	return principal.WithCaller(ctx, caller), nil
}

// checkVM checks ownership of the VM that the request names.
func (g gate) checkVM(ctx context.Context, r methodRules, req any) error {
	want, powerSuffices := r.GetAccess(), true
	if want == optionsv1.Access_ACCESS_PRIVATE {
		want, powerSuffices = r.GetVmAccess(), false
	}
	open := (g.legacy && r.GetOpenToUsers()) || (g.openReads && r.GetOpenReads())
	if open || (want != optionsv1.Access_ACCESS_OWNER && want != optionsv1.Access_ACCESS_OWNER_OR_TOKEN) {
		return nil
	}
	caller := principal.CallerFrom(ctx)
	var token []byte
	if want == optionsv1.Access_ACCESS_OWNER_OR_TOKEN {
		if t, ok := req.(tokenRequest); ok && len(t.GetAccessToken()) > 0 {
			token = t.GetAccessToken()
		}
	}
	// A token that is shown must be right, whatever the caller may do: another host shows its caller's, who may do less than that host.
	if token == nil && (caller.Admin || (caller.Power && powerSuffices)) {
		return nil
	}
	vm, ok := req.(vmRequest)
	if !ok {
		return fault.New(fault.Internal, "schema: %T is owner-restricted but names no VM", req)
	}
	return g.vms.AuthorizeVM(ctx, vm.GetVm(), caller.Principal, token)
}

// gatedStream checks the first message that the handler receives.
type gatedStream struct {
	withContext
	gate    gate
	rules   methodRules
	checked bool
}

func (s *gatedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil || s.checked {
		return err
	}
	s.checked = true
	return s.gate.checkVM(s.ctx, s.rules, m)
}
