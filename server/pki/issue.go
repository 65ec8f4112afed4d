package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// The files that Issue makes, beside CAFile.
const (
	IssuedFile    = "client.pem"
	IssuedKeyFile = "client.key"
)

// Wish is a client certificate that somebody is to get.
type Wish struct {
	// Name is the user whom it stands for.
	Name string
	// Methods are those that its holder has power on, as Service.Method; "*" stands for any service or method.
	Methods []string
	// Lifetime is how long it is good for; 0 = a year.
	Lifetime time.Duration
}

// Issue makes a client certificate of the CA in dir, which must be there, and writes it with its key and the CA's certificate into the directory out. Files
// that are there are not replaced: AlreadyExists.
func Issue(dir, out string, now time.Time, wish Wish) error {
	template, err := wish.template(now)
	if err != nil {
		return err
	}
	ca, err := maker{dir: dir, now: now}.read(CAFile, caKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.FailedPrecondition, "%s: there is no CA; the daemon makes it when it is started for the first time", dir)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fault.Wrap(err, "certificate")
	}
	for _, name := range []string{IssuedFile, IssuedKeyFile, CAFile} {
		if _, err := os.Lstat(filepath.Join(out, name)); !errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.AlreadyExists, "%s: is there; choose another directory", filepath.Join(out, name))
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	m := maker{dir: out, now: now}
	if err := m.write(CAFile, "CERTIFICATE", ca.cert.Raw); err != nil {
		return err
	}
	_, err = m.sign(template, ca, key, IssuedFile, IssuedKeyFile)
	return err
}

func (w Wish) template(now time.Time) (*x509.Certificate, error) {
	if w.Name == "" || w.Name == AdminName {
		return nil, fault.New(fault.InvalidArgument, "name %q: is empty or that of the administrator", w.Name)
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: w.Name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, method := range w.Methods {
		if service, name, ok := strings.Cut(method, "."); !ok || service == "" || name == "" {
			return nil, fault.New(fault.InvalidArgument, "method %q: is not Service.Method", method)
		}
	}
	if len(w.Methods) > 0 {
		list, err := asn1.Marshal(w.Methods)
		if err != nil {
			return nil, fault.As(fault.InvalidArgument, err, "methods")
		}
		t.ExtraExtensions = []pkix.Extension{{Id: principal.OIDMethods(), Value: list}}
	}
	if err := fillTemplate(t, now); err != nil {
		return nil, err
	}
	if w.Lifetime < 0 {
		return nil, fault.New(fault.InvalidArgument, "lifetime %v: is negative", w.Lifetime)
	}
	if w.Lifetime > 0 {
		t.NotAfter = now.Add(w.Lifetime)
	}
	return t, nil
}
