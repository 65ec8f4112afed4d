package converters_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

// everyTarget returns all ways to write an image, by name.
func everyTarget() map[string]converters.Target {
	return map[string]converters.Target{
		"raw":            {Format: "raw"},
		"qcow2":          {Format: "qcow2"},
		"qcow2 4k":       {Format: "qcow2", ClusterSize: 4096},
		"qcow2 extended": {Format: "qcow2", Variant: "extended-l2"},
		"qcow2 zlib":     {Format: "qcow2", Compression: "zlib", Level: 1},
		"qcow2 zlib 4k":  {Format: "qcow2", Compression: "zlib", Window: 4096},
		"qcow2 zstd":     {Format: "qcow2", Compression: "zstd", Level: 1},
		"vmdk stream":    {Format: "vmdk", Level: 1},
		"vmdk sparse":    {Format: "vmdk", Variant: "monolithicSparse"},
		"vmdk flat":      {Format: "vmdk", Variant: "monolithicFlat"},
		"vmdk split":     {Format: "vmdk", Variant: "twoGbMaxExtentSparse"},
		"vhd dynamic":    {Format: "vhd"},
		"vhd fixed":      {Format: "vhd", Variant: "fixed"},
		"vhdx dynamic":   {Format: "vhdx"},
		"vhdx fixed":     {Format: "vhdx", Variant: "fixed"},
		"vdi dynamic":    {Format: "vdi"},
		"vdi fixed":      {Format: "vdi", Variant: "fixed"},
	}
}

// TestRoundTrips writes random disks in every way, and each of these images again in every way: the content must stay.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	disks := map[string]*imagetest.Disk{
		"empty": {Size: 0}, "a sector": {Size: 512, Pieces: []imagetest.Piece{{Off: 0, Len: 512, Content: imagetest.Text}}},
		"odd": imagetest.RandomDisk(71, 3_333_333), "sectors": imagetest.RandomDisk(72, 5_000_192),
		"hole": {Size: 9 << 20, Pieces: []imagetest.Piece{{Off: 4<<20 + 77, Len: 1000, Content: imagetest.Random}}},
	}
	for first, target := range everyTarget() {
		t.Run("from "+first, func(t *testing.T) {
			t.Parallel()
			for name, disk := range disks {
				dir := t.TempDir()
				path := filepath.Join(dir, "a."+target.Format)
				writeImage(t, disk, path, target, converters.Options{Workers: 2})
				src := openFolder(t, path)
				imagetest.Same(t, disk, src)
				for second, again := range everyTarget() {
					path := filepath.Join(dir, strings.ReplaceAll(second, " ", "-")+"."+again.Format)
					writeImage(t, src, path, again, converters.Options{Workers: 2})
					t.Logf("%s: %s to %s", name, first, second)
					imagetest.Same(t, src, openFolder(t, path))
				}
			}
		})
	}
}

// TestHugePairs does the same with a disk of more than 2 TiB that is almost empty, where the format can hold it.
func TestHugePairs(t *testing.T) {
	t.Parallel()
	const size = 2<<40 + 3<<30
	disk := &imagetest.Disk{Size: size, Pieces: []imagetest.Piece{
		{Off: 0, Len: 4096, Content: imagetest.Text}, {Off: 2<<40 - 300, Len: 100_000, Content: imagetest.Random}, {Off: size - 1, Len: 1, Content: imagetest.Random},
	}}
	for name, target := range everyTarget() {
		switch name {
		case "vhd dynamic", "vhd fixed": // at most 2040 GiB
			continue
		case "qcow2 4k", "vmdk sparse", "vmdk flat", "vmdk split", "vhdx fixed", "vdi fixed": // thousands of files, or tables of many MiB
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a."+target.Format)
			writeImage(t, disk, path, target, converters.Options{Workers: 2})
			imagetest.Same(t, disk, openFolder(t, path))
		})
	}
}
