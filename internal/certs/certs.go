// Package certs makes X.509 certificates: of authorities, of servers, and of users with the groups and methods that servers of the SRPC protocol and this one
// read from two extensions (package principal).
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

const (
	// caLifetime and leafLifetime are how long certificates are good for if nothing else is said.
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	// backdate forgives peers whose clocks are behind.
	backdate = time.Hour
)

// Pair is a certificate with its key.
type Pair struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Term is when a certificate begins and how long it is good for; 0 = the usual time.
type Term struct {
	Now      time.Time
	Lifetime time.Duration
}

// User is whom a client certificate stands for.
type User struct {
	Name string
	// Groups are those that the user is in.
	Groups []string
	// Methods are those that the user has power on, as Service.Method; either half may have wildcards. They count only under a CA that is trusted for methods.
	Methods []string
}

// NewCA makes an authority that signs itself.
func NewCA(name string, t Term) (Pair, error) {
	if name == "" {
		return Pair{}, fault.New(fault.InvalidArgument, "name of the authority: is empty")
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return sign(template, Pair{}, t, caLifetime)
}

// NewUser makes a client certificate.
func (ca Pair) NewUser(u User, t Term) (Pair, error) {
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if err := u.describe(template); err != nil {
		return Pair{}, err
	}
	return sign(template, ca, t, leafLifetime)
}

// NewServer makes a server's certificate for host names and addresses. With as, the server is also that user, to other servers.
func (ca Pair) NewServer(names []string, as *User, t Term) (Pair, error) {
	if len(names) == 0 {
		return Pair{}, fault.New(fault.InvalidArgument, "server: give the host names and addresses at which it is reached")
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if name == "" || strings.ContainsAny(name, " /\\:") {
			return Pair{}, fault.New(fault.InvalidArgument, "server %q: is neither a host name nor an address", name)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	if as != nil {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		if err := as.describe(template); err != nil {
			return Pair{}, err
		}
	}
	return sign(template, ca, t, leafLifetime)
}

// describe puts the user into a certificate.
func (u User) describe(template *x509.Certificate) error {
	if u.Name == "" {
		return fault.New(fault.InvalidArgument, "name of the user: is empty")
	}
	for _, method := range u.Methods {
		if service, name, ok := strings.Cut(method, "."); !ok || service == "" || name == "" {
			return fault.New(fault.InvalidArgument, "method %q: is not Service.Method", method)
		}
	}
	template.Subject.CommonName = u.Name
	for _, list := range []struct {
		id    asn1.ObjectIdentifier
		texts []string
	}{{principal.OIDMethods(), u.Methods}, {principal.OIDGroups(), u.Groups}} {
		if len(list.texts) == 0 {
			continue
		}
		value, err := asn1.Marshal(list.texts)
		if err != nil {
			return fault.As(fault.InvalidArgument, err, "user %s", u.Name)
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: list.id, Value: value})
	}
	return nil
}

// sign makes a key and a certificate for it, signed by another's, or by itself.
func sign(template *x509.Certificate, by Pair, t Term, usual time.Duration) (Pair, error) {
	if t.Lifetime < 0 {
		return Pair{}, fault.New(fault.InvalidArgument, "lifetime %v: is negative", t.Lifetime)
	}
	if t.Lifetime == 0 {
		t.Lifetime = usual
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return Pair{}, err
	}
	template.NotBefore, template.NotAfter = t.Now.Add(-backdate), t.Now.Add(t.Lifetime)
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	if by.Cert == nil {
		by = Pair{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Cert, &key.PublicKey, by.Key)
	if err != nil {
		return Pair{}, fault.As(fault.Internal, err, "certificate of %s", template.Subject.CommonName)
	}
	cert, err := x509.ParseCertificate(der)
	return Pair{cert, key}, err
}
