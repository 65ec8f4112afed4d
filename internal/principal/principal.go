// Package principal says who makes a call and what that lets him do, for every transport alike.
package principal

import (
	"context"
	"path"
	"slices"
)

// Principal is who a credential stands for. The zero value is nobody.
type Principal struct {
	// Name is the user; empty = no credential.
	Name   string
	Groups []string
	// Powers are patterns of "Service.Method" (path.Match) for which the credential gives method power.
	Powers []string
	// Admin has method power on everything.
	Admin bool
	// Local says that the caller is on this host (loopback address or Unix socket).
	Local bool
	// Via is how the credential came: certificate, token, socket. For the log.
	Via string
}

// Authenticated says whether there was a credential.
func (p Principal) Authenticated() bool { return p.Name != "" }

// HasPower says whether the credential gives method power on any of the names of a method.
func (p Principal) HasPower(methods ...string) bool {
	if p.Admin {
		return true
	}
	for _, pattern := range p.Powers {
		for _, m := range methods {
			if ok, err := path.Match(pattern, m); err == nil && ok {
				return true
			}
		}
	}
	return false
}

// OwnsAny says whether the principal is one of the users or in one of the groups.
func (p Principal) OwnsAny(users, groups []string) bool {
	if !p.Authenticated() {
		return false
	}
	return slices.Contains(users, p.Name) || slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(p.Groups, g) })
}

// Caller is a principal in one call.
type Caller struct {
	Principal
	// Power is method power on the method called: ownership of VMs is not asked for.
	Power bool
}

type principalKey struct{}

type callerKey struct{}

// With returns a context that carries p, for a transport that has authenticated its peer.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns what With put into the context.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// WithCaller returns a context that carries c, for the handler.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller; nobody if none was put there.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
