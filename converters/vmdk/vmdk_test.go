package vmdk_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: vmdk.Format(), QemuFormat: "vmdk", SevenZip: "vmdk", QemuChecks: true, Strict: true,
		Variants: []imagetest.Variant{
			{Name: "streamOptimized"},
			{Name: "4 KiB grains level 1", Options: image.CreateOptions{ClusterSize: 4096, Level: 1}},
		},
		QemuCreate: map[string][]string{
			"monolithicSparse": nil,
			"streamOptimized":  {"-o", "subformat=streamOptimized"},
			"zeroed grains":    {"-S", "0", "-o", "zeroed_grain=on"},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}
