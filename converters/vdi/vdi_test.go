package vdi_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vdi"
)

func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: vdi.Format(), QemuFormat: "vdi", SevenZip: "VDI", QemuChecks: true, Strict: true,
		MaxSize: 512<<40 - 1<<20,
		Variants: []imagetest.Variant{
			{Name: "dynamic"},
			// All of a fixed image is data, which the test reads.
			{Name: "fixed", Options: image.CreateOptions{Variant: "fixed"}, Fixed: true, MaxSize: 2<<30 + 16<<20},
		},
		QemuCreate: map[string][]string{
			"dynamic": nil,
			"static":  {"-o", "static=on"},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}
