package vhdx_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/converters/vhdx"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// harness leaves 7-Zip to TestSevenZip: it refuses disks that do not consist of 4 KiB.
func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: vhdx.Format(), QemuFormat: "vhdx", QemuChecks: true, Strict: true, MaxSize: 64 << 40,
		Variants: []imagetest.Variant{
			{Name: "dynamic"},
			{Name: "dynamic 4 MiB blocks", Options: image.CreateOptions{ClusterSize: 4 << 20}},
			{Name: "fixed", Options: image.CreateOptions{Variant: "fixed"}, Fixed: true},
			{Name: "fixed 8 MiB blocks", Options: image.CreateOptions{Variant: "fixed", ClusterSize: 8 << 20}, Fixed: true},
		},
		QemuCreate: map[string][]string{
			"dynamic":                nil,
			"dynamic 1 MiB blocks":   {"-o", "block_size=1M"},
			"dynamic 2 MiB blocks":   {"-o", "block_size=2M"},
			"dynamic 4 MiB blocks":   {"-o", "block_size=4M"},
			"dynamic 8 MiB blocks":   {"-o", "block_size=8M"},
			"dynamic 16 MiB blocks":  {"-o", "block_size=16M"},
			"dynamic 32 MiB blocks":  {"-o", "block_size=32M"},
			"dynamic 64 MiB blocks":  {"-o", "block_size=64M"},
			"dynamic 128 MiB blocks": {"-o", "block_size=128M"},
			"dynamic 256 MiB blocks": {"-o", "block_size=256M"},
			"block states off":       {"-o", "block_state_zero=off,block_size=1M"},
			"log of 2 MiB":           {"-o", "log_size=2M"},
			"fixed":                  {"-o", "subformat=fixed"},
			"fixed 1 MiB blocks":     {"-o", "subformat=fixed,block_size=1M"},
			"fixed 32 MiB blocks":    {"-o", "subformat=fixed,block_size=32M"},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}

// TestSevenZip has 7-Zip read what is written here.
func TestSevenZip(t *testing.T) {
	t.Parallel()
	h := harness()
	for _, v := range h.Variants {
		for _, disk := range []*imagetest.Disk{imagetest.RandomDisk(47, 5<<20-4096), {Size: 1 << 20}} {
			path := imagetest.Write(t, h, v, disk)
			out := filepath.Join(filepath.Dir(path), "out")
			res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "7zz", Args: []string{"x", "-tVHDX", "-o" + out, path}})
			if err != nil {
				t.Fatalf("7zz: %v (if it is missing: make deps)\n%s", err, res.Stdout)
			}
			files, err := os.ReadDir(out)
			if err != nil || len(files) != 1 {
				t.Fatalf("7-Zip unpacked %d files: %v", len(files), err)
			}
			f, err := os.Open(filepath.Join(out, files[0].Name()))
			if err != nil {
				t.Fatal(err)
			}
			r, err := raw.OpenFile(f)
			if err != nil {
				t.Fatal(err)
			}
			imagetest.Same(t, disk, r)
			_ = r.Close()
		}
	}
}
