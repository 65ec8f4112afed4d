package ovf_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
)

func TestManifest(t *testing.T) {
	t.Parallel()
	one, two := sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two"))
	var b strings.Builder
	if err := ovf.WriteManifest(&b, "SHA256", []ovf.Digest{{Name: "vm.ovf", Sum: one[:]}, {Name: "vm disk.vmdk", Sum: two[:]}}); err != nil {
		t.Fatal(err)
	}
	want := "SHA256(vm.ovf)= 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed\n" +
		"SHA256(vm disk.vmdk)= 3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3\n"
	if b.String() != want {
		t.Errorf("manifest:\n%s\nwant:\n%s", b.String(), want)
	}
	for _, hash := range []struct {
		name string
		size int
	}{{"SHA1", 20}, {"SHA512", 64}} {
		b.Reset()
		if err := ovf.WriteManifest(&b, hash.name, []ovf.Digest{{Name: "vm.ovf", Sum: make([]byte, hash.size)}}); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(b.String(), hash.name+"(vm.ovf)= 00") {
			t.Errorf("manifest: %s", b.String())
		}
	}
}

func TestManifestRefused(t *testing.T) {
	t.Parallel()
	sum := make([]byte, 32)
	for name, test := range map[string]struct {
		hash  string
		files []ovf.Digest
	}{
		"hash":              {"MD5", []ovf.Digest{{Name: "vm.ovf", Sum: sum[:16]}}},
		"nothing":           {"SHA256", nil},
		"descriptor second": {"SHA256", []ovf.Digest{{Name: "a.vmdk", Sum: sum}, {Name: "vm.ovf", Sum: sum}}},
		"path":              {"SHA256", []ovf.Digest{{Name: "../vm.ovf", Sum: sum}}},
		"line break":        {"SHA256", []ovf.Digest{{Name: "a\n.ovf", Sum: sum}}},
		"twice":             {"SHA256", []ovf.Digest{{Name: "vm.ovf", Sum: sum}, {Name: "vm.ovf", Sum: sum}}},
		"short digest":      {"SHA256", []ovf.Digest{{Name: "vm.ovf", Sum: sum[:31]}}},
	} {
		var b strings.Builder
		if err := ovf.WriteManifest(&b, test.hash, test.files); !fault.Is(err, fault.InvalidArgument) || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, b.Len())
		}
	}
}
