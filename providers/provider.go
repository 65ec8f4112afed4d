// Package providers opens a session with a platform by the platform's name.
//
// The platforms themselves are packages below this one; which there are is said in package all, and nowhere else. What every platform
// needs (retries, limits, progress) is put around a driver by whoever uses it, not into the platforms.
package providers

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// Opener logs in to a platform.
type Opener func(ctx context.Context, s driver.Settings, log *slog.Logger) (driver.Driver, error)

// Registry holds openers by the names of platforms. It does not change after it was made and is safe for concurrent use.
type Registry struct{ openers map[string]Opener }

// NewRegistry makes a registry of the given openers.
func NewRegistry(openers map[string]Opener) *Registry {
	return &Registry{openers: maps.Clone(openers)}
}

// Names returns the names of all platforms, ordered.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.openers)) }

// Open logs in to the platform of that name. A name that is not known is an InvalidArgument fault that lists the names there are.
func (r *Registry) Open(ctx context.Context, name string, s driver.Settings, log *slog.Logger) (driver.Driver, error) {
	open, ok := r.openers[name]
	if !ok {
		return nil, fault.New(fault.InvalidArgument, "provider %q is not known; use one of %s", name, strings.Join(r.Names(), ", "))
	}
	return open(ctx, s, log.With(slog.String("provider", name)))
}
