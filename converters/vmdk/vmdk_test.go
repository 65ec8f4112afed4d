package vmdk_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

// harness has the compressed variants, which can be read as streams.
func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: vmdk.Format(), QemuFormat: "vmdk", SevenZip: "vmdk", QemuChecks: true, Strict: true,
		Variants: []imagetest.Variant{
			{Name: "streamOptimized"},
			{Name: "4 KiB grains level 1", Options: image.CreateOptions{ClusterSize: 4096, Level: 1}},
		},
		QemuCreate: map[string][]string{
			"streamOptimized": {"-o", "subformat=streamOptimized"},
		},
	}
}

// plainHarness has the variants with plain content, which cannot be read as streams.
func plainHarness() imagetest.Harness {
	h := harness()
	h.Format.OpenStream = nil
	h.Format.Create = createBeside
	h.Libyal = "pyvmdk"
	h.Variants = []imagetest.Variant{
		{Name: "monolithicSparse", Options: image.CreateOptions{Variant: "monolithicSparse"}, MaxSize: 2 << 40},
		{
			Name: "monolithicSparse 4 KiB grains", Options: image.CreateOptions{Variant: "monolithicSparse", ClusterSize: 4096}, MaxSize: 64 << 30,
			Unreadable: []string{"libyal"},
		},
		{Name: "monolithicFlat", Options: image.CreateOptions{Variant: "monolithicFlat"}, Fixed: true, Several: true},
		{Name: "twoGbMaxExtentFlat", Options: image.CreateOptions{Variant: "twoGbMaxExtentFlat"}, Fixed: true, Several: true},
		{Name: "twoGbMaxExtentSparse", Options: image.CreateOptions{Variant: "twoGbMaxExtentSparse"}, Several: true},
	}
	h.QemuCreate = map[string][]string{
		"monolithicSparse":     nil,
		"zeroed grains":        {"-S", "0", "-o", "zeroed_grain=on"},
		"monolithicFlat":       {"-o", "subformat=monolithicFlat"},
		"twoGbMaxExtentSparse": {"-o", "subformat=twoGbMaxExtentSparse"},
		"twoGbMaxExtentFlat":   {"-o", "subformat=twoGbMaxExtentFlat"},
	}
	return h
}

// createBeside is vmdk.Create for callers that give no way to make other files: they are made beside the first.
func createBeside(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if f, ok := out.(*os.File); ok && o.Sibling == nil {
		o.Sibling = func(name string) (image.Output, error) { return os.Create(filepath.Join(filepath.Dir(f.Name()), name)) }
	}
	return vmdk.Create(out, o)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}

func TestConformanceOfPlainVariants(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, plainHarness())
}
