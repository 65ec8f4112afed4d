// Package all lists the platforms that Hyperplane exports from. A platform that is not in Registry does not exist for the rest of the
// program.
package all

import (
	"context"
	"log/slog"

	"github.com/hyperplane-project/hyperplane/providers"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/vsphere"
)

// Registry returns the openers of all platforms.
func Registry() *providers.Registry {
	return providers.NewRegistry(map[string]providers.Opener{
		"vsphere": func(ctx context.Context, s driver.Settings, log *slog.Logger) (driver.Driver, error) {
			return vsphere.Open(ctx, s, log)
		},
	})
}
