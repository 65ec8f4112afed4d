package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSplice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ history, live, want string }{
		{"", "", ""},
		{"booting\n", "", "booting\n"},
		{"", "hello", "hello"},
		{"booting\nhel", "hello", "booting\nhello"},
		{"booting\nhello", "hello", "booting\nhello"},
		{"booting\n", "hello", "booting\nhello"}, // the log is late
		{"aaa", "aab", "aaab"},
		{"lo", "hello", "lohello"},
	} {
		if got := string(splice([]byte(test.history), []byte(test.live))); got != test.want {
			t.Errorf("%q and %q make %q, not %q", test.history, test.live, got, test.want)
		}
	}
}

func TestReadTail(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	if got, err := readTail(file); err != nil || got != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 2*historyBytes)+"end"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readTail(file)
	if err != nil || len(got) != historyBytes || !strings.HasSuffix(string(got), "end") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestParseOwner(t *testing.T) {
	t.Parallel()
	caps := func(models string) string { return "<capabilities><host>" + models + "</host></capabilities>" }
	for _, test := range []struct {
		text string
		want owner
	}{
		{caps(""), owner{}},
		{caps("<secmodel><model>none</model></secmodel>"), owner{}},
		{
			caps(`<secmodel><model>apparmor</model></secmodel><secmodel><model>dac</model><baselabel type="kvm">+64055:+109</baselabel></secmodel>`),
			owner{known: true, uid: 64055, gid: 109},
		},
	} {
		if got, err := parseOwner(test.text); err != nil || got != test.want {
			t.Errorf("%s: %+v, %v", test.text, got, err)
		}
	}
	for _, bad := range []string{"<", caps(`<secmodel><model>dac</model><baselabel type="kvm">qemu:qemu</baselabel></secmodel>`)} {
		if got, err := parseOwner(bad); err == nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
}
