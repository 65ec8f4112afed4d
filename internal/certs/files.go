package certs

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"

	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Write writes the two files, PEM and readable by their owner only. They replace what is there. The key goes first: a certificate without its key would be
// taken for damage.
func (p Pair) Write(certFile, keyFile string) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return fault.Wrap(err, "credentials")
	}
	return WriteCertificate(certFile, p.Cert)
}

// WriteCertificate writes a certificate alone.
func WriteCertificate(file string, cert *x509.Certificate) error {
	return fault.Wrap(atomicfile.Write(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})), "credentials")
}

// Read reads a certificate and its key; the error is fs.ErrNotExist if the certificate is missing.
func Read(certFile, keyFile string) (Pair, error) {
	certs, err := ReadCertificates(certFile)
	if err != nil {
		return Pair{}, err
	}
	raw, err := os.ReadFile(keyFile)
	if err != nil {
		return Pair{}, fault.As(fault.FailedPrecondition, err, "key of %s", certFile)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return Pair{}, fault.New(fault.DataLoss, "%s holds no PEM block", keyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Pair{}, fault.As(fault.DataLoss, err, "%s", keyFile)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certs[0].PublicKey) {
		return Pair{}, fault.New(fault.DataLoss, "%s is not the key of %s", keyFile, certFile)
	}
	return Pair{certs[0], key}, nil
}

// ReadCertificates reads all certificates of a file: InvalidArgument if there are none.
func ReadCertificates(file string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(file)
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
			return nil, fault.As(fault.InvalidArgument, err, "%s: certificate %d", file, len(certs)+1)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fault.New(fault.InvalidArgument, "%s holds no certificate in PEM form", file)
	}
	return certs, nil
}
