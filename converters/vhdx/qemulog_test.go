package vhdx_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// TestQemuLog replays a log entry that QEMU wrote. QEMU puts each change of the BAT through the log and leaves the entry there when it is done; here the
// header is made to say that it still counts, and the BAT is emptied.
func TestQemuLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk.vhdx")
	imagetest.Qemu(t, "create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, "8M")
	args := []string{"-f", "vhdx", "-c", "write -q -P 0x41 3M 1M", path}
	if res, err := (procexec.Runner{}).Run(t.Context(), procexec.Command{Program: "qemu-io", Args: args}); err != nil {
		t.Fatalf("qemu-io: %v (if it is missing, install qemu-utils)\n%s", err, res.Stdout)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b[logAt:logAt+4]) != "loge" {
		t.Fatal("QEMU has written no log entry")
	}
	const bat = 2 * mib // in QEMU's files
	clear(b[bat:][:mib])
	id := b[logAt+32:][:16]
	b = inHeaders(func(h []byte) []byte { copy(h[48:64], id); return h })(b)
	r, err := openBytes(t, b, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 8*mib)
	copy(want[3*mib:], bytes.Repeat([]byte{0x41}, mib))
	if !bytes.Equal(content(t, r), want) {
		t.Error("content differs")
	}
}
