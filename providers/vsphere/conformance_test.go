package vsphere_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/providers/drivertest"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	drivertest.Run(t, func(t *testing.T) *drivertest.Harness {
		t.Helper()
		return newHarness(t, vcentersim.Config{})
	})
}
