package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	leafLifetime = 365 * 24 * time.Hour
	// backdate forgives clients whose clocks are behind.
	backdate = time.Hour
)

func caTemplate(now time.Time) (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Hyperplane CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	err := fillTemplate(t, now)
	t.NotAfter = now.Add(caLifetime)
	return t, err
}

func adminTemplate() *x509.Certificate {
	methods, err := asn1.Marshal([]string{"*.*"})
	if err != nil {
		panic(err) // a constant
	}
	return &x509.Certificate{
		Subject:         pkix.Name{CommonName: AdminName},
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{{Id: principal.OIDMethods(), Value: methods}},
	}
}

func fillTemplate(t *x509.Certificate, now time.Time) error {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return err
	}
	t.SerialNumber = serial
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.Add(leafLifetime)
	if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature
	}
	return nil
}

func (m maker) sign(template *x509.Certificate, by keyPair, key *ecdsa.PrivateKey, certFile, keyFile string) (keyPair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		return keyPair{}, fault.As(fault.Internal, err, "certificate %s", certFile)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, err
	}
	// The key first: a certificate without its key would be taken for damage at the next start.
	if err := m.write(keyFile, "PRIVATE KEY", keyDER); err != nil {
		return keyPair{}, err
	}
	if err := m.write(certFile, "CERTIFICATE", der); err != nil {
		return keyPair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return keyPair{cert, key}, err
}

func (m maker) write(name, kind string, der []byte) error {
	temp := filepath.Join(m.dir, "."+name)
	if err := os.WriteFile(temp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fault.Wrap(err, "credentials")
	}
	return fault.Wrap(os.Rename(temp, filepath.Join(m.dir, name)), "credentials")
}

// read reads a certificate and its key; fs.ErrNotExist if the certificate is missing.
func (m maker) read(certFile, keyFile string) (keyPair, error) {
	certs, err := readCertificates(filepath.Join(m.dir, certFile))
	if err != nil {
		return keyPair{}, err
	}
	path := filepath.Join(m.dir, keyFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return keyPair{}, fault.As(fault.FailedPrecondition, err, "key of %s", certFile)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return keyPair{}, fault.New(fault.DataLoss, "%s holds no PEM block", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return keyPair{}, fault.As(fault.DataLoss, err, "%s", path)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certs[0].PublicKey) {
		return keyPair{}, fault.New(fault.DataLoss, "%s is not the key of %s", path, certFile)
	}
	return keyPair{certs[0], key}, nil
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(err, "certificates")
	}
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fault.As(fault.InvalidArgument, err, "%s: certificate %d", path, len(certs)+1)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fault.New(fault.InvalidArgument, "%s holds no certificate in PEM form", path)
	}
	return certs, nil
}
