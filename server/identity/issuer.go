package identity

import (
	"context"
	"crypto/tls"
)

// CertificateKind is what a certificate is for.
type CertificateKind string

// The kinds.
const (
	X509 CertificateKind = "x509"
	SSH  CertificateKind = "ssh"
)

// Issuer gives identities to VMs. It is asked with a requestor certificate: one for the host's own key that says for whom the host may ask.
type Issuer interface {
	// Certificate returns a certificate of the name in the requestor's for a public key: PEM for X.509, a line as in authorized_keys for SSH.
	Certificate(ctx context.Context, requestor tls.Certificate, kind CertificateKind, publicKey []byte) ([]byte, error)
	// RenewRequestor returns a requestor certificate that is good for longer, PEM. publicKey is the host's, PKIX DER.
	RenewRequestor(ctx context.Context, requestor tls.Certificate, publicKey []byte) ([]byte, error)
}
