package raw_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/raw"
)

func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: raw.Format(), QemuFormat: "raw", Variants: []imagetest.Variant{{Name: "raw"}}, QemuCreate: map[string][]string{"raw": nil},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}
