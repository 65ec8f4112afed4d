package principal

import (
	"crypto/x509"
	"encoding/asn1"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The extensions of a client certificate that name groups and permitted methods, each an ASN.1 SEQUENCE OF strings. They are those of
// the Dominator ecosystem, whose certificates are accepted as they are.
var (
	oidMethods = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 9586, 100, 7, 1}
	oidGroups  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 9586, 100, 7, 2}
)

// OIDMethods returns the extension that lists permitted methods.
func OIDMethods() asn1.ObjectIdentifier { return oidMethods }

// OIDGroups returns the extension that lists groups.
func OIDGroups() asn1.ObjectIdentifier { return oidGroups }

// FromCertificate returns whom a verified client certificate stands for: the user is its common name. The method list counts only if
// methodsTrusted holds for the certificate's issuer, given as the raw subject of that issuer.
func FromCertificate(leaf *x509.Certificate, methodsTrusted func(rawIssuer []byte) bool) (Principal, error) {
	if leaf.Subject.CommonName == "" {
		return Principal{}, fault.New(fault.Unauthenticated, "client certificate has no common name, so it names no user")
	}
	p := Principal{Name: leaf.Subject.CommonName, Via: "certificate"}
	for _, ext := range leaf.Extensions {
		var into *[]string
		switch {
		case ext.Id.Equal(oidGroups):
			into = &p.Groups
		case ext.Id.Equal(oidMethods) && methodsTrusted(leaf.RawIssuer):
			into = &p.Powers
		default:
			continue
		}
		if rest, err := asn1.Unmarshal(ext.Value, into); err != nil || len(rest) > 0 {
			return Principal{}, fault.New(fault.Unauthenticated,
				"client certificate of %q: extension %v is not a sequence of strings", p.Name, ext.Id)
		}
	}
	return p, nil
}
