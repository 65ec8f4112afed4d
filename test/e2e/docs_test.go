package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDocs runs the commands that the pages of docs/ show, in their order: all shell blocks of a page in one folder, beside a daemon on the fake hypervisor.
func TestDocs(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("there are %d pages: %v", len(pages), err)
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			makeDisk(t, filepath.Join(dir, "disk.raw"), 4<<20, 9)
			makeDisk(t, filepath.Join(dir, "base.qcow2"), 4<<20, 8) // what is in it does not matter to a fake
			write(t, filepath.Join(dir, "cloud-config.yaml"), "#cloud-config\n")
			config := filepath.Join(t.TempDir(), "config.yaml")
			write(t, config, "hypervisor: {driver: fake}\n"+yamlBlock(string(text), "subnets:\n"))
			d := startDaemon(t, nil, "--config", config)
			script := "set -eux\n" + strings.Join(shellBlocks(string(text)), "\n")
			cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program(t, "hyperexport"))+":"+os.Getenv("PATH"), "HYPERPLANE_SERVER=unix://"+filepath.Join(d.dir, "sock"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// yamlBlock returns the fenced block marked yaml that begins with a key; "" if there is none.
func yamlBlock(text, key string) string {
	for i, part := range strings.Split(text, "```") {
		if config, ok := strings.CutPrefix(part, "yaml\n"); ok && i%2 == 1 && strings.HasPrefix(config, key) {
			return config
		}
	}
	return ""
}

// shellBlocks returns the fenced blocks marked sh.
func shellBlocks(text string) (blocks []string) {
	for i, part := range strings.Split(text, "```") {
		if code, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			blocks = append(blocks, code)
		}
	}
	return blocks
}
