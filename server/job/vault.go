package job

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Vault seals the secrets of jobs with a key that lies beside the state, readable by the daemon only, so that a copy of the state file alone
// tells nothing.
type Vault struct{ aead cipher.AEAD }

const vaultKeySize = 32

// OpenVault reads the key, or makes it with mode 0600.
func OpenVault(path string) (*Vault, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, vaultKeySize)
		if _, err := rand.Read(key); err != nil {
			return nil, err
		}
		err = os.WriteFile(path, key, 0o600)
	}
	if err != nil {
		return nil, fault.Wrap(err, "secrets key")
	}
	if len(key) != vaultKeySize {
		return nil, fault.New(fault.DataLoss, "secrets key %s: has %d bytes instead of %d", path, len(key), vaultKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &Vault{aead}, err
}

// Seal encrypts secrets so that they can be opened only as those of the same owner.
func (v *Vault) Seal(owner string, secrets map[string]string) ([]byte, error) {
	raw, err := json.Marshal(secrets)
	if err != nil {
		return nil, err
	}
	return v.aead.Seal(nil, nil, raw, []byte(owner)), nil //nolint:gosec // this AEAD makes a random nonce itself and wants none given
}

// Open decrypts what Seal made.
func (v *Vault) Open(owner string, sealed []byte) (map[string]string, error) {
	raw, err := v.aead.Open(nil, nil, sealed, []byte(owner))
	if err != nil {
		return nil, fault.As(fault.DataLoss, err, "job %s: its secrets can not be opened; was the secrets key replaced?", owner)
	}
	var secrets map[string]string
	return secrets, json.Unmarshal(raw, &secrets)
}
