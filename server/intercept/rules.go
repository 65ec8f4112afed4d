package intercept

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// HostOwners knows who owns this host: they have method power on everything.
type HostOwners interface {
	OwnsHost(p principal.Principal) bool
}

// Rules are the facts that the schema states about methods, by full method name ("/package.Service/Method").
type Rules struct {
	// Owners may be nil: nobody owns the host. Set it before the rules are used.
	Owners   HostOwners
	byMethod map[string]methodRules
}

type methodRules struct {
	*optionsv1.MethodRules
	// names are what a certificate's method list may call it: the SRPC name, and Service.Method of the schema.
	names []string
}

// NewRules reads the rules of all methods of the services. A method without an access rule is an error that names it.
func NewRules(services ...protoreflect.ServiceDescriptor) (*Rules, error) {
	r := &Rules{byMethod: make(map[string]methodRules)}
	for _, s := range services {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			rules := MethodRules(m)
			if rules.GetAccess() == optionsv1.Access_ACCESS_UNSPECIFIED {
				return nil, fault.New(fault.Internal, "method %s has no access rule in the schema", m.FullName())
			}
			names := []string{string(s.Name()) + "." + string(m.Name())}
			if srpc := rules.GetSrpc(); srpc != nil {
				names = append(names, srpc.GetService()+"."+string(m.Name()))
			}
			r.byMethod["/"+string(s.FullName())+"/"+string(m.Name())] = methodRules{rules, names}
		}
	}
	return r, nil
}

// MethodRules returns the rules in a method's options, or nil.
func MethodRules(m protoreflect.MethodDescriptor) *optionsv1.MethodRules {
	options, ok := m.Options().(*descriptorpb.MethodOptions)
	if !ok || !proto.HasExtension(options, optionsv1.E_Method) {
		return nil
	}
	rules, _ := proto.GetExtension(options, optionsv1.E_Method).(*optionsv1.MethodRules)
	return rules
}

// of returns a method's rules. Methods of other schemas that the server also serves (health, reflection) have none: health is open to
// anybody, the rest to authenticated users.
func (r *Rules) of(fullMethod string) methodRules {
	if rules, ok := r.byMethod[fullMethod]; ok {
		return rules
	}
	access := optionsv1.Access_ACCESS_AUTHENTICATED
	if strings.HasPrefix(fullMethod, "/grpc.health.v1.Health/") {
		access = optionsv1.Access_ACCESS_ANYBODY
	}
	return methodRules{MethodRules: &optionsv1.MethodRules{Access: access}}
}

// power says whether the principal has method power on a method.
func (r *Rules) power(p principal.Principal, m methodRules) bool {
	return p.HasPower(m.names...) || (r.Owners != nil && r.Owners.OwnsHost(p))
}

// MayCall says whether the principal in ctx (principal.From) may call a method at all, for a transport that answers that before it reads the
// request: Unauthenticated or PermissionDenied if not. Ownership of a VM is checked with the request.
func (r *Rules) MayCall(ctx context.Context, fullMethod string, openReads bool) error {
	_, err := gate{rules: r, openReads: openReads}.enter(ctx, r.of(fullMethod))
	return err
}
