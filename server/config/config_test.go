package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/server/config"
)

func load(t *testing.T, text string, env map[string]string) (config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path, func(k string) string { return env[k] })
	if err == nil {
		err = c.Validate()
	}
	return c, err
}

// seedConfig is the configuration in HyperSDK's feature document.
const seedConfig = `VCenterURL: "https://vcenter.example.com/sdk"
Username: "administrator@vsphere.local"
Password: "your-password"
Insecure: true
DaemonAddr: "localhost:8080"
LogLevel: "info"
DownloadWorkers: 4
EnableCBT: true
DefaultFormat: "qcow2"
`

func TestSeedAndSnakeCaseKeysMeanTheSame(t *testing.T) {
	t.Parallel()
	camel, err := load(t, seedConfig, nil)
	if err != nil {
		t.Fatal(err)
	}
	snake, err := load(t, `vcenter_url: https://vcenter.example.com/sdk
username: administrator@vsphere.local
password: your-password
insecure: true
listen: ["localhost:8080"]
log_level: info
download_workers: 4
enable_cbt: true
default_format: qcow2
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	camel.DaemonAddr = ""
	if diff := cmp.Diff(snake, camel, cmp.Comparer(func(a, b config.Subnet) bool { return a.ID == b.ID })); diff != "" {
		t.Error(diff)
	}
	if camel.VCenterURL != "https://vcenter.example.com/sdk" || !camel.EnableCBT || camel.Listen[0] != "localhost:8080" {
		t.Errorf("keys were not read: %+v", camel)
	}
}

func TestUnknownKeySaysFileAndLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"log_level: info\nlog_lvl: info\n":             "line 2: field log_lvl",
		"LogLevel: info\n\nDownloadWorker: 4\n":        "line 3: field download_worker",
		"hypervisor:\n  driver: fake\n  colour: red\n": "line 3: field colour",
		"peers: {protocol: telnet}\n":                  "peers.protocol: \"telnet\" is not one of auto, grpc, srpc",
		"cert_file: /etc/a.pem\n":                      "give both cert_file and key_file",
		"log_level: loud\n":                            "log_level: \"loud\" is not one of",
		"job_concurrency: many\n":                      "line 1",
		"log_level: [\n":                               "line",
	} {
		if _, err := load(t, text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}

func TestEnvironmentWinsOverFile(t *testing.T) {
	t.Parallel()
	c, err := load(t, seedConfig, map[string]string{
		"GOVC_URL": "https://other/sdk", "GOVC_USERNAME": "u", "GOVC_PASSWORD": "p", "GOVC_INSECURE": "false", "DAEMON_ADDR": "127.0.0.1:1", "LOG_LEVEL": "debug",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.VCenterURL != "https://other/sdk" || c.Username != "u" || string(c.Password) != "p" || c.Insecure || c.Listen[0] != "127.0.0.1:1" || c.LogLevel != "debug" {
		t.Errorf("environment was not applied: %+v", c)
	}
	if _, err := load(t, "", map[string]string{"GOVC_INSECURE": "perhaps"}); err == nil {
		t.Error("GOVC_INSECURE=perhaps was accepted")
	}
}

func TestPowerOffCommand(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                        "systemctl poweroff",
		"power_off_command: []\n":                 "",
		"power_off_command: [ipmitool, power]\n":  "ipmitool power",
		"hypervisor:\n  driver: fake\n":           "",
		"hypervisor:\n  log_dir: /elsewhere\n":    "systemctl poweroff",
		"identity_provider: https://id.example\n": "systemctl poweroff",
	} {
		c, err := load(t, text, nil)
		if err != nil || strings.Join(c.PowerOffCommand, " ") != want {
			t.Errorf("%q: %q, %v", text, c.PowerOffCommand, err)
		}
	}
}

func TestIdentityProviderIsAnAddress(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"id.example", "ftp://id.example", "https://", "https://user:pass@id.example", "::"} {
		if _, err := load(t, "identity_provider: \""+bad+"\"\n", nil); err == nil || strings.Contains(err.Error(), "pass") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
