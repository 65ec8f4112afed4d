package ovf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hyperplane-project/hyperplane/providers/ovf"
)

func TestSafeName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{ //nolint:gosec // the names are no credentials
		"web-disk1.vmdk":                  "web-disk1.vmdk",
		"Straße 7 – übung.qcow2":          "Straße 7 – übung.qcow2",
		"":                                "unnamed",
		".":                               "unnamed",
		"..":                              "unnamed",
		"...":                             "unnamed",
		".hidden":                         "hidden",
		"-rf":                             "rf",
		"../../etc/passwd":                "_.._etc_passwd",
		`..\..\windows\system32`:          "_.._windows_system32",
		"/etc/passwd":                     "_etc_passwd",
		"a\x00b":                          "a_b",
		"a\nSHA256(x)= 00":                "a_SHA256_x_= 00",
		"\xff\xfe":                        "__",
		"trailing. ":                      "trailing",
		"CON":                             "_CON",
		"nul.vmdk":                        "_nul.vmdk",
		"com1":                            "_com1",
		"command":                         "command",
		"C:disk":                          "C_disk",
		"a\u202egpj.exe":                  "a_gpj.exe",
		strings.Repeat("x", 300) + ".ovf": strings.Repeat("x", 196) + ".ovf",
		strings.Repeat("ü", 150):          strings.Repeat("ü", 100),
	} {
		if got := ovf.SafeName(name); got != want {
			t.Errorf("SafeName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestNamesKeepsNamesApart(t *testing.T) {
	t.Parallel()
	var n ovf.Names
	long := strings.Repeat("x", 400) + ".vmdk"
	seen := make(map[string]bool)
	for _, name := range []string{"disk.vmdk", "disk.vmdk", "DISK.vmdk", "disk-2.vmdk", "a/b", "a_b", long, long, long, "", ""} {
		got := n.Take(name)
		if key := strings.ToLower(got); seen[key] || got != ovf.SafeName(got) {
			t.Errorf("Take(%q) = %q, which is taken or not safe", name, got)
		} else {
			seen[key] = true
		}
	}
	if !seen["disk-2.vmdk"] || !seen["disk-3.vmdk"] || !seen["unnamed-2"] {
		t.Errorf("names: %v", seen)
	}
}

// FuzzSafeName creates the file and looks where it is.
func FuzzSafeName(f *testing.F) {
	for _, seed := range []string{"", "disk.vmdk", "../../x", "/abs", "a\x00b", ".", "CON.txt", "aux", "\xff", strings.Repeat("é", 200), "a/../b", `c:\x`, " .-x. "} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, name string) {
		safe := ovf.SafeName(name)
		switch {
		case safe == "" || len(safe) > 200 || !utf8.ValidString(safe):
			t.Fatalf("SafeName(%q) = %q (%d bytes)", name, safe, len(safe))
		case safe != ovf.SafeName(safe):
			t.Fatalf("SafeName(%q) = %q, and of that %q", name, safe, ovf.SafeName(safe))
		case !filepath.IsLocal(safe) || filepath.Base(safe) != safe || strings.ContainsAny(safe, "/\\\x00\n\r:()") || safe[0] == '.' || safe[0] == '-':
			t.Fatalf("SafeName(%q) = %q", name, safe)
		}
		at := filepath.Join(dir, safe)
		if filepath.Dir(at) != filepath.Clean(dir) {
			t.Fatalf("SafeName(%q) leads to %s", name, at)
		}
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
	})
}
