package identity_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/identity"
)

// oneVM is a host with one VM, "web", whose owner is alice.
type oneVM struct {
	dir    string
	record *hypervisorv1.LocalVmInfo
	fail   error // of Change
}

func newVM(t *testing.T) *oneVM {
	t.Helper()
	return &oneVM{dir: t.TempDir(), record: &hypervisorv1.LocalVmInfo{VmInfo: &hypervisorv1.VmInfo{Uuid: "u", OwnerUsers: []string{"alice"}}}}
}

func (v *oneVM) Info(ref string) (*hypervisorv1.VmInfo, error) {
	if ref != "web" {
		return nil, fault.New(fault.NotFound, "vm %q: no such VM", ref)
	}
	return v.record.GetVmInfo(), nil
}

func (v *oneVM) Acquire(_ context.Context, ref string) (*hypervisorv1.LocalVmInfo, func(), error) {
	_, err := v.Info(ref)
	return v.record, func() {}, err
}

func (v *oneVM) Change(_ context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error) {
	record := proto.CloneOf(v.record)
	if err := errors.Join(v.fail, change(record)); err != nil {
		return nil, err
	}
	if uuid == "u" {
		v.record = record
	}
	return record, nil
}

func (v *oneVM) Directory(string) (string, error) { return v.dir, nil }

func (v *oneVM) AuthorizeVM(_ context.Context, ref string, p principal.Principal, _ []byte) error {
	info, err := v.Info(ref)
	if err == nil && !p.OwnsAny(info.GetOwnerUsers(), nil) {
		err = fault.New(fault.PermissionDenied, "no access to resource")
	}
	return err
}

func newService(t *testing.T) (*identity.Service, *oneVM) {
	t.Helper()
	v := newVM(t)
	return &identity.Service{
		VMs: v, Operations: v, Tokens: identity.NewTokens(time.Now), Now: time.Now, Key: &identity.HostKey{Path: filepath.Join(v.dir, "host.key")},
	}, v
}

// pair makes a certificate for a name, and its key.
func pair(t *testing.T, name string, end time.Time) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return certify(t, name, end, private, &private.PublicKey), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func certify(t *testing.T, name string, end time.Time, by crypto.Signer, public crypto.PublicKey) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: end}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, public, by)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}
