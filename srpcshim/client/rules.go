package client

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// needsPower says whether a method, /package.Service/Method, is only for callers with method power.
func needsPower(method string) (bool, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return false, fault.As(fault.Internal, err, "%s is not in the schema", method)
	}
	rules, _ := proto.GetExtension(d.Options(), optionsv1.E_Method).(*optionsv1.MethodRules)
	return rules.GetAccess() == optionsv1.Access_ACCESS_PRIVATE, nil
}
