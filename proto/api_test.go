// Package proto checks the rules of the schema that no linter has.
package proto

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/admin/v1"
	_ "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	_ "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
)

// hypervisorMethods is how many methods Dominator's hypervisor and its checklist have together. The store of images is our own.
const hypervisorMethods = 81

func methods() []protoreflect.MethodDescriptor {
	var all []protoreflect.MethodDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				if strings.HasPrefix(string(f.Package()), "hyperplane.") {
					all = append(all, s.Methods().Get(j))
				}
			}
		}
		return true
	})
	return all
}

func rulesOf(m protoreflect.MethodDescriptor) *optionsv1.MethodRules {
	r, _ := proto.GetExtension(m.Options(), optionsv1.E_Method).(*optionsv1.MethodRules)
	return r
}

func TestEveryMethodSaysItsFacts(t *testing.T) {
	t.Parallel()
	routes, srpc, count := map[string]string{}, map[string]bool{}, 0
	for _, m := range methods() {
		if m.ParentFile().Package() == "hyperplane.hypervisor.v1" && m.Parent().Name() != "LocalImageService" && m.Parent().Name() != "PeerService" &&
			m.Parent().Name() != "VirtualisationService" && m.Parent().Name() != "ApplianceService" {
			count++
		}
		r := rulesOf(m)
		if r.GetAccess() == optionsv1.Access_ACCESS_UNSPECIFIED {
			t.Errorf("%s has no access", m.FullName())
		}
		if r.GetVmAccess() != optionsv1.Access_ACCESS_UNSPECIFIED && r.GetAccess() != optionsv1.Access_ACCESS_PRIVATE {
			t.Errorf("%s has vm_access, which is for private methods", m.FullName())
		}
		http, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
		if http.GetPattern() == nil {
			t.Errorf("%s has no http rule", m.FullName())
		}
		route := fmt.Sprintf("%T %v", http.GetPattern(), http.GetPattern())
		if other, taken := routes[route]; taken {
			t.Errorf("%s has the route of %s: %s", m.FullName(), other, route)
		}
		routes[route] = string(m.FullName())
		if s := r.GetSrpc(); s != nil {
			name := s.GetService() + "." + string(m.Name())
			if srpc[name] || s.GetKind() == optionsv1.SrpcKind_SRPC_KIND_UNSPECIFIED {
				t.Errorf("%s: SRPC name %s is taken, or has no kind", m.FullName(), name)
			}
			srpc[name] = true
			stream := m.IsStreamingClient() || m.IsStreamingServer()
			if stream && s.GetKind() == optionsv1.SrpcKind_SRPC_KIND_REQUEST_REPLY {
				t.Errorf("%s is a stream but request/reply on SRPC", m.FullName())
			}
		}
	}
	if count != hypervisorMethods {
		t.Errorf("%d methods of the hypervisor, want %d", count, hypervisorMethods)
	}
}

func TestEveryListHasPages(t *testing.T) {
	t.Parallel()
	for _, m := range methods() {
		if !strings.HasPrefix(string(m.Name()), "List") {
			continue
		}
		in, out := m.Input().Fields(), m.Output().Fields()
		if in.ByName("page_size") == nil || in.ByName("page_token") == nil || out.ByName("next_page_token") == nil {
			t.Errorf("%s has no page_size, page_token and next_page_token", m.FullName())
		}
	}
}

func TestOwnerMethodsNameAVM(t *testing.T) {
	t.Parallel()
	for _, m := range methods() {
		r := rulesOf(m)
		for _, a := range []optionsv1.Access{r.GetAccess(), r.GetVmAccess()} {
			if a != optionsv1.Access_ACCESS_OWNER && a != optionsv1.Access_ACCESS_OWNER_OR_TOKEN {
				continue
			}
			if m.Input().Fields().ByName("vm") == nil {
				t.Errorf("%s is restricted to owners but its request has no vm", m.FullName())
			}
			if a == optionsv1.Access_ACCESS_OWNER_OR_TOKEN && m.Input().Fields().ByName("access_token") == nil {
				t.Errorf("%s takes a token but its request has no access_token", m.FullName())
			}
		}
	}
}
