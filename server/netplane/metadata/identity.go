package metadata

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/identity"
)

// identity adds what a VM proves itself with: certificate and key, also under the name of the key's kind.
func (s *Service) identity(info *hypervisorv1.VmInfo, tree map[string]leaf) {
	const folder = "/latest/dynamic/instance-identity/"
	stored := s.file(info, identity.File)
	for _, kind := range []string{"", "RSA-", "Ed25519-"} {
		for _, key := range []bool{false, true} {
			name := kind + "X.509-certificate"
			if key {
				name = kind + "X.509-key"
			}
			tree[folder+name] = func() ([]byte, bool, error) {
				content, found, err := stored()
				if err != nil || !found {
					return nil, false, err
				}
				return part(content, kind, key)
			}
		}
	}
}

// sshCertificate adds the SSH certificate, which is for the same key.
func (s *Service) sshCertificate(info *hypervisorv1.VmInfo, tree map[string]leaf) {
	certificate := s.file(info, identity.SSHFile)
	tree["/latest/dynamic/instance-identity/SSH-certificate"] = certificate
	tree["/latest/dynamic/instance-identity/RSA-SSH-certificate"] = certificate
}

// part returns the certificates or the key of an identity; found is false if it is of another kind.
func part(content []byte, kind string, wantKey bool) (out []byte, found bool, err error) {
	is := ""
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			break
		}
		content = rest
		isKey := block.Type != "CERTIFICATE"
		if isKey {
			if is, err = kindOf(block.Bytes); err != nil {
				return nil, false, err
			}
		}
		if isKey == wantKey {
			out = append(out, pem.EncodeToMemory(block)...)
		}
	}
	return out, len(out) > 0 && (kind == "" || kind == is), nil
}

func kindOf(key []byte) (string, error) {
	k, err := x509.ParsePKCS8PrivateKey(key)
	if err != nil {
		return "", fault.New(fault.DataLoss, "identity: the key in it is none") // the parser's error may say too much
	}
	switch k.(type) {
	case *rsa.PrivateKey:
		return "RSA-", nil
	case ed25519.PrivateKey:
		return "Ed25519-", nil
	default:
		return "", nil
	}
}
