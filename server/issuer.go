package server

import (
	"crypto/x509"
	"os"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/identity"
	"github.com/hyperplane-project/hyperplane/server/identity/keymaster"
)

// newIssuer makes what speaks with the identity provider; nil if there is none.
func newIssuer(cfg config.Config) (identity.Issuer, error) {
	if cfg.IdentityProvider == "" {
		return nil, nil //nolint:nilnil // there need not be one
	}
	c := &keymaster.Client{BaseURL: cfg.IdentityProvider}
	if cfg.IdentityProviderCAFile == "" {
		return c, nil
	}
	raw, err := os.ReadFile(cfg.IdentityProviderCAFile)
	if err != nil {
		return nil, fault.Wrap(err, "identity_provider_ca_file")
	}
	if c.Roots = x509.NewCertPool(); !c.Roots.AppendCertsFromPEM(raw) {
		return nil, fault.New(fault.InvalidArgument, "identity_provider_ca_file %s: no certificate in PEM form", cfg.IdentityProviderCAFile)
	}
	return c, nil
}
