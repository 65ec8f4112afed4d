package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// keyBits is the length of the host's key.
const keyBits = 3072

// HostKey is the host's RSA key, to which certificates that request identities for its VMs are bound. It is made when it is first needed, which takes up to
// seconds, and kept for ever after.
type HostKey struct {
	// Path is the file, PEM of a PKCS #8 key, readable by its owner only. Its folder must exist.
	Path string

	mu  sync.Mutex
	key *rsa.PrivateKey
}

// PublicPEM returns the public key as PEM (PKIX, "PUBLIC KEY").
func (k *HostKey) PublicPEM() ([]byte, error) {
	key, err := k.get()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fault.As(fault.Internal, err, "host key")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// get reads the key, or makes it.
func (k *HostKey) get() (*rsa.PrivateKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		return k.key, nil
	}
	raw, err := os.ReadFile(k.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.key, err = makeKey(k.Path)
	case err == nil:
		k.key, err = parseKey(k.Path, raw)
	}
	return k.key, fault.Wrap(err, "host key")
}

func makeKey(path string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, err
	}
	return key, nil
}

func parseKey(path string, raw []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fault.New(fault.DataLoss, "%s holds no PEM block; put the key back, or remove the file to have a new one made", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.As(fault.DataLoss, err, "%s", path)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fault.New(fault.DataLoss, "%s holds no RSA key", path)
	}
	return key, nil
}
