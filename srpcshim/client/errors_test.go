package client

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]fault.Code{
		"no VM with IP address: 10.0.0.1 found":                            fault.NotFound,
		"no access to resource":                                            fault.PermissionDenied,
		"access to method denied":                                          fault.PermissionDenied,
		"VM is not stopped":                                                fault.FailedPrecondition,
		"VM is not running":                                                fault.FailedPrecondition,
		"mutations blocked":                                                fault.FailedPrecondition,
		"Hypervisor is disabled":                                           fault.FailedPrecondition,
		"unknown service: Hypervisor":                                      fault.Unimplemented,
		"Hypervisor: unknown method: GetVmInfo":                            fault.Unimplemented,
		`vm "10.0.0.1": no access to resource: the token is not valid`:     fault.PermissionDenied,
		`the file "a": no access to resource`:                              fault.Unknown,
		"open /var/lib/x: file exists, and there is no access to resource": fault.Unknown,
		"": fault.Unknown,
	} {
		if got := codeOf(text); got != want {
			t.Errorf("%q: code %d, want %d", text, got, want)
		}
	}
	if got := printable("a\nb\x00\xffc\u202e"); got != "a b ?c " {
		t.Errorf("%q", got)
	}
}
