package vm

import (
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// checkHostname accepts a host name, or none.
func checkHostname(field, h string) error {
	if h != "" && (len(h) > 253 || !hostnameForm.MatchString(h)) {
		return fault.New(fault.InvalidArgument, "%s: %q is not a host name (letters, digits, - and dots)", field, h)
	}
	return nil
}

// checkPriority refuses a scheduling priority that does not exist or that the caller may not give.
func checkPriority(priority int32, caller principal.Caller) error {
	if priority < hypervisor.MinCPUPriority || priority > hypervisor.MaxCPUPriority {
		return fault.New(fault.InvalidArgument, "cpu_priority: %d is not between %d and %d", priority, hypervisor.MinCPUPriority, hypervisor.MaxCPUPriority)
	}
	if priority < 0 && !caller.Power {
		return fault.New(fault.PermissionDenied, "cpu_priority: %d, below 0, needs method power", priority)
	}
	return nil
}

// checkNames refuses a list with an empty name.
func checkNames(field string, names []string) error {
	if slices.Contains(names, "") {
		return fault.New(fault.InvalidArgument, "%s: contains an empty name", field)
	}
	return nil
}

// checkEnum refuses a number that the schema has no value for.
func checkEnum(field string, value protoreflect.Enum) error {
	if value.Descriptor().Values().ByNumber(value.Number()) == nil {
		return fault.New(fault.InvalidArgument, "%s: %d is no value of %s", field, value.Number(), value.Descriptor().Name())
	}
	return nil
}
