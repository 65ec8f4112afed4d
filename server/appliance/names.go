package appliance

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxName is the length of a name in bytes.
const maxName = 100

// checkName refuses what is no name: it becomes a part of a path.
func checkName(field, name string) error {
	if name == "" || len(name) > maxName {
		return fault.New(fault.InvalidArgument, "%s: must have 1 to %d bytes, this one has %d", field, maxName, len(name))
	}
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") {
		return fault.New(fault.InvalidArgument, "%s: %q begins with %q", field, name, name[0])
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", r) {
			return fault.New(fault.InvalidArgument, "%s: %q has %q in it; letters, digits, and - _ . are allowed", field, name, r)
		}
	}
	return nil
}

// hostnameForm is that of a VM's host name in one label or more.
var hostnameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// checkMachineName refuses what cannot be the name of a new machine.
func checkMachineName(field, name string, managed bool) error {
	if err := checkName(field, name); err != nil {
		return err
	}
	if managed && !hostnameForm.MatchString(name) {
		return fault.New(fault.InvalidArgument, "%s: %q: a VM's name is its host name: letters, digits, - and dots", field, name)
	}
	return nil
}

// newMAC makes a random address in the range that QEMU's machines have.
func newMAC() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2])
}
