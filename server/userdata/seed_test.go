package userdata_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/userdata"
)

func TestSeedHasTheUserDataAndTheNameOfNow(t *testing.T) {
	t.Parallel()
	s, v := newService(t)
	info := &hypervisorv1.VmInfo{Uuid: "u", Hostname: "web-1"}
	if seed, err := s.Seed(t.Context(), info); seed != "" || err != nil {
		t.Fatalf("without user data: %q %v", seed, err)
	}
	text := "#cloud-config\n" + strings.Repeat("x", 5000)
	if err := s.Put("u", []byte(text)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"web-1", "web-2"} {
		info.Hostname = name
		seed, err := s.Seed(t.Context(), info)
		if err != nil {
			t.Fatal(err)
		}
		if got := inISO(t, seed, "user-data"); got != text {
			t.Errorf("user-data has %d bytes, want %d", len(got), len(text))
		}
		if got := inISO(t, seed, "meta-data"); got != "instance-id: u\nlocal-hostname: "+name+"\n" {
			t.Errorf("meta-data is %q", got)
		}
	}
	if err := os.Remove(filepath.Join(v.dir, userdata.File)); err != nil {
		t.Fatal(err)
	}
	if seed, err := s.Seed(t.Context(), info); seed != "" || err != nil {
		t.Errorf("after the user data has gone: %q %v", seed, err)
	}
	if left, err := os.ReadDir(v.dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v %v", left, err)
	}
}

// inISO returns a file's content, and checks the file system's label.
func inISO(t *testing.T, path, name string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	iso, err := iso9660.Read(file.New(f, true), 0, 0, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if label := strings.TrimSpace(iso.Label()); label != "cidata" {
		t.Errorf("label %q", label)
	}
	content, err := iso.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
