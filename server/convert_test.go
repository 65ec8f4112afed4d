package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
)

// TestConvertFormat converts through the path that HyperSDK's documents show: one after the other into each format, the last being the first again.
func TestConvertFormat(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client, base := s.HTTP()
	dir := t.TempDir()
	source := filepath.Join(dir, "disk.raw")
	content := append([]byte(strings.Repeat("the disk ", 100_000)), make([]byte, 1<<20)...)
	content = content[:len(content)/512*512]
	if err := os.WriteFile(source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, target := range []string{"qcow2", "vmdk", "vhd", "vhdx", "vdi", "raw"} {
		path := filepath.Join(dir, fmt.Sprintf("%d.%s", i, target))
		body := fmt.Sprintf(`{"source_path":%q,"output_path":%q,"target_format":%q}`, source, path, target)
		code, answer := do(t, client, http.MethodPost, base+"/convert/format", s.Token(), body)
		var res struct {
			JobID string `json:"job_id"`
		}
		if err := json.Unmarshal([]byte(answer), &res); err != nil || code != http.StatusOK || res.JobID == "" {
			t.Fatalf("convert to %s: %d %s", target, code, answer)
		}
		if j := s.wait(res.JobID, hasEnded); j.GetState() != exportv1.JobState_JOB_STATE_COMPLETED {
			t.Fatalf("convert to %s: %v", target, j.GetError())
		}
		source = path
	}
	if got, err := os.ReadFile(source); err != nil || string(got) != string(content) {
		t.Errorf("behind all formats the disk has %d bytes, not the %d it had: %v", len(got), len(content), err)
	}
	for body, want := range map[string]string{
		`{"source_path":"/x","output_path":"/y","target_format":"qed"}`:           "target_format",
		`{"source_path":"/x","target_format":"raw"}`:                              "output_path",
		`{"source_path":"/x","output_path":"/y","target_format":"raw","color":1}`: "color",
		`{"source_path":"x","output_path":"/y","target_format":"raw"}`:            "source_path",
	} {
		code, answer := do(t, client, http.MethodPost, base+"/convert/format", s.Token(), body)
		if code < 400 || !strings.Contains(answer, want) {
			t.Errorf("%s: %d %s, want an error that names %s", body, code, answer, want)
		}
	}
}
