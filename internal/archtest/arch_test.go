// Package archtest checks who imports whom. The rules are those of ARCHITECTURE.md; depguard has the same ones with a sentence each, but sees
// only files that are linted.
package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/hyperplane-project/hyperplane/"

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// rules says which imports are forbidden for packages below a folder. Exceptions are folders below it.
func rules() []struct {
	below     string
	except    []string
	forbidden []string
} {
	return []struct {
		below     string
		except    []string
		forbidden []string
	}{
		{"internal/", nil, []string{module + "gen/", module + "server", module + "providers", module + "converters", module + "clients"}},
		{"converters", nil, []string{module + "gen/", module + "server", module + "providers", module + "clients"}},
		{"providers", nil, []string{module + "gen/", module + "server", module + "clients"}},
		{"providers/driver", nil, []string{"github.com/vmware/"}},
		{"srpcshim", nil, []string{module + "server"}},
		// What both sides had wrong would go unseen.
		{"srpcshim/srpctest", nil, []string{module + "gen/", module + "srpcshim/wire", module + "srpcshim/dialogue", module + "srpcshim/client"}},
		{"clients", nil, []string{module + "server"}},
		{"server", []string{"server/hypervisor/libvirt"}, []string{"github.com/digitalocean/go-libvirt", "libvirt.org/go/libvirtxml"}},
		{"server", []string{"server/job", "server/servertest"}, []string{module + "providers/vsphere", "github.com/vmware/"}},
		{"server/vm", nil, []string{module + "converters", "net/http"}},
		{"server/network", nil, []string{"net/http"}},
		// Guests are told about themselves over HTTP: that is what every cloud's guests ask.
		{"server/netplane", []string{"server/netplane/metadata"}, []string{"net/http", module + "server/vm", module + "server/network", module + "server/hypervisor"}},
		{"server/job", nil, []string{module + "providers/vsphere", module + "server/hypervisor", "net/http"}},
		{"gen", nil, []string{module + "server", module + "internal"}},
	}
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, r := range rules() {
			if !within(path, r.below) || withinAny(path, r.except) {
				continue
			}
			for _, imported := range p.Imports {
				for _, f := range r.forbidden {
					if strings.HasPrefix(imported, f) {
						t.Errorf("%s imports %s: forbidden below %s", path, imported, r.below)
					}
				}
			}
		}
	}
}

func within(path, folder string) bool {
	folder = strings.TrimSuffix(folder, "/")
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func withinAny(path string, folders []string) bool {
	for _, f := range folders {
		if within(path, f) {
			return true
		}
	}
	return false
}
