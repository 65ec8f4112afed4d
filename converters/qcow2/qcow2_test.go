package qcow2_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
)

func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: qcow2.Format(), QemuFormat: "qcow2", SevenZip: "qcow", Libyal: "pyqcow", QemuChecks: true, Strict: true,
		Variants: []imagetest.Variant{
			{Name: "plain"},
			{Name: "plain 4 KiB clusters", Options: image.CreateOptions{ClusterSize: 4096}},
			{Name: "plain 2 MiB clusters", Options: image.CreateOptions{ClusterSize: 2 << 20}},
			{Name: "zlib", Options: image.CreateOptions{Compression: "zlib"}},
			{Name: "zlib 4 KiB clusters level 1", Options: image.CreateOptions{Compression: "zlib", ClusterSize: 4096, Level: 1}},
			{Name: "zlib 2 MiB clusters", Options: image.CreateOptions{Compression: "zlib", ClusterSize: 2 << 20}},
			{Name: "zstd", Options: image.CreateOptions{Compression: "zstd"}, Unreadable: []string{"7zip", "libyal"}},
			{Name: "zlib window 4 KiB", Options: image.CreateOptions{Compression: "zlib", Window: 4096}},
			{Name: "extended L2", Options: image.CreateOptions{Variant: "extended-l2"}, Unreadable: []string{"7zip", "libyal"}},
			{Name: "extended L2 16 KiB clusters", Options: image.CreateOptions{Variant: "extended-l2", ClusterSize: 16 << 10}, Unreadable: []string{"7zip", "libyal"}},
			{
				Name: "extended L2 zlib", Options: image.CreateOptions{Variant: "extended-l2", Compression: "zlib", ClusterSize: 64 << 10},
				Unreadable: []string{"7zip", "libyal"},
			},
		},
		QemuCreate: map[string][]string{
			"v3":                     nil,
			"v2":                     {"-o", "compat=0.10"},
			"512-byte clusters":      {"-o", "cluster_size=512"},
			"2 MiB clusters":         {"-o", "cluster_size=2M"},
			"zlib":                   {"-c"},
			"zlib v2":                {"-c", "-o", "compat=0.10"},
			"zlib 512-byte clusters": {"-c", "-o", "cluster_size=512"},
			"zlib 2 MiB clusters":    {"-c", "-o", "cluster_size=2M"},
			"zstd":                   {"-c", "-o", "compression_type=zstd"},
			"zstd 2 MiB clusters":    {"-c", "-o", "compression_type=zstd,cluster_size=2M"},
			"extended L2":            {"-o", "extended_l2=on,cluster_size=64k"},
			"extended L2 zlib":       {"-c", "-o", "extended_l2=on,cluster_size=32k"},
			"preallocated":           {"-o", "preallocation=metadata"},
			"refcounts of 1 bit":     {"-o", "refcount_bits=1"},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}
