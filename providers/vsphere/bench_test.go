package vsphere_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/vsphere"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

// BenchmarkStream reads a disk from a simulator in the same process over TLS; both share the processors.
func BenchmarkStream(b *testing.B) {
	data := noise(1, 256<<20)
	sim, err := vcentersim.New(b.Context(), vcentersim.Config{VMs: []vcentersim.VM{
		{Name: "vm", Disks: []vcentersim.Disk{{Content: raw.New(bytes.NewReader(data), int64(len(data)))}}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.WithoutCancel(b.Context())
	defer func() { _ = sim.Close(ctx) }()
	d, err := vsphere.Open(ctx, driver.Settings{URL: sim.URL(), Username: "user", Password: "pass", InsecureSkipVerify: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close(ctx) }()
	v, err := d.Open(ctx, "vm", driver.OpenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = v.Close(ctx, true) }()
	buf := make([]byte, 1<<20)
	for b.Loop() {
		c, err := v.OpenDisk(ctx, v.VM().Disks[0].ID)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, c.Stream, buf)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(n)
		_ = c.Stream.Close()
	}
}
