package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/internal/undo"
)

// File is what a VM proves itself with, in its folder: the certificates and the key, PEM, in one file so that they always match.
const File = "identity.pem"

// ReplaceVmCredentials implements IdentityService.
func (s *Service) ReplaceVmCredentials(
	ctx context.Context, req *hypervisorv1.ReplaceVmCredentialsRequest,
) (*hypervisorv1.ReplaceVmCredentialsResponse, error) {
	pair, err := s.parse(ctx, req.GetIdentityCertificate(), req.GetIdentityKey())
	if err != nil {
		return nil, err
	}
	content, err := encode(pair)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	err = s.change(ctx, req.GetVm(), pair.Leaf.Subject.CommonName, timestamppb.New(pair.Leaf.NotAfter),
		func(uuid, path string) error {
			if s.refreshers.runs(uuid) {
				return fault.New(fault.FailedPrecondition, "its identity is refreshed by %s; erase that with ReplaceVmIdentity first", s.Provider)
			}
			return atomicfile.Write(path, content)
		})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ReplaceVmCredentialsResponse{}, nil
}

// parse checks credentials for a VM.
func (s *Service) parse(ctx context.Context, certificate, key []byte) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return pair, fault.As(fault.InvalidArgument, err, "identity_certificate, identity_key")
	}
	return pair, s.checkCertificate(ctx, "identity_certificate", pair.Leaf)
}

// Check says what is wrong with credentials for a VM.
func (s *Service) Check(ctx context.Context, certificate, key []byte) error {
	_, err := s.parse(ctx, certificate, key)
	return err
}

// Install gives a VM that is being created its credentials and returns whose they are and until when. The caller holds its lock and changes its record.
func (s *Service) Install(ctx context.Context, uuid string, certificate, key []byte) (string, *timestamppb.Timestamp, error) {
	pair, err := s.parse(ctx, certificate, key)
	if err != nil {
		return "", nil, err
	}
	content, err := encode(pair)
	if err != nil {
		return "", nil, err
	}
	defer clear(content)
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return "", nil, err
	}
	return pair.Leaf.Subject.CommonName, timestamppb.New(pair.Leaf.NotAfter), atomicfile.Write(filepath.Join(dir, File), content)
}

// ReplaceVmIdentity implements IdentityService.
func (s *Service) ReplaceVmIdentity(
	ctx context.Context, req *hypervisorv1.ReplaceVmIdentityRequest,
) (*hypervisorv1.ReplaceVmIdentityResponse, error) {
	if len(req.GetIdentityRequestorCertificate()) > 0 {
		if err := s.requestIdentity(ctx, req.GetVm(), req.GetIdentityRequestorCertificate()); err != nil {
			return nil, err
		}
		return &hypervisorv1.ReplaceVmIdentityResponse{}, nil
	}
	err := s.change(ctx, req.GetVm(), "", nil, func(uuid, path string) error {
		s.refreshers.stop(uuid)
		dir := filepath.Dir(path)
		return errors.Join(remove(path), remove(filepath.Join(dir, SSHFile)), remove(filepath.Join(dir, RequestorFile)))
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ReplaceVmIdentityResponse{}, nil
}

// requestIdentity gets an identity for the VM at once, and has it refreshed from then on.
func (s *Service) requestIdentity(ctx context.Context, vm string, text []byte) error {
	const field = "identity_requestor_certificate"
	if s.Provider == "" || s.Issuer == nil {
		return fault.New(fault.FailedPrecondition, "%s: this host has no identity provider; set identity_provider in its configuration", field)
	}
	requestor, err := s.requestor(text)
	if err != nil {
		return err
	}
	if err := s.checkCertificate(ctx, field, requestor.Leaf); err != nil {
		return err
	}
	record, release, err := s.Operations.Acquire(ctx, vm)
	if err != nil {
		return err
	}
	defer release()
	expires, err := s.issue(ctx, record, requestor, text)
	if err != nil {
		return fault.Wrap(err, "vm %q: identity", vm)
	}
	s.refresh(ctx, record.GetVmInfo().GetUuid(), requestor, expires)
	return nil
}

// checkCertificate refuses a certificate that is no identity for a VM.
func (s *Service) checkCertificate(ctx context.Context, field string, cert *x509.Certificate) error {
	name := cert.Subject.CommonName
	if name == "" {
		return fault.New(fault.InvalidArgument, "%s: has no common name, so it names nobody", field)
	}
	if name == principal.CallerFrom(ctx).Name {
		return fault.New(fault.PermissionDenied, "%s: is for %q, who makes this call; nobody may give his own identity to a VM", field, name)
	}
	if !s.Now().Before(cert.NotAfter) {
		return fault.New(fault.InvalidArgument, "%s: of %q expired at %s", field, name, cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// encode returns a pair as PEM.
func encode(pair tls.Certificate) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "identity_key")
	}
	defer clear(der)
	var content []byte
	for _, c := range pair.Certificate {
		content = append(content, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return append(content, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}

// change changes a VM's file and what its record says of it: both or none.
func (s *Service) change(ctx context.Context, vm, name string, expires *timestamppb.Timestamp, file func(uuid, path string) error) error {
	record, release, err := s.Operations.Acquire(ctx, vm)
	if err != nil {
		return err
	}
	defer release()
	uuid := record.GetVmInfo().GetUuid()
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return err
	}
	var u undo.Stack
	path := filepath.Join(dir, File)
	before, err := os.ReadFile(path)
	defer clear(before)
	switch {
	case err == nil:
		u.Add(func(context.Context) error { return atomicfile.Write(path, before) })
	case errors.Is(err, fs.ErrNotExist):
		u.Add(func(context.Context) error { return remove(path) })
	default:
		return fault.Wrap(err, "vm %q: identity", vm)
	}
	if err = file(uuid, path); err == nil {
		_, err = s.Operations.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
			r.VmInfo.IdentityName, r.VmInfo.IdentityExpires = name, expires
			return nil
		})
	}
	if err != nil {
		return fault.Wrap(errors.Join(err, u.Run(ctx)), "vm %q: identity", vm)
	}
	return nil
}

// Drop takes away a VM's credentials and its access token, for a VM that is no longer who it was. The caller holds its lock and changes its record.
func (s *Service) Drop(_ context.Context, uuid string) error {
	s.Tokens.Discard(uuid)
	s.refreshers.stop(uuid)
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return err
	}
	return fault.Wrap(errors.Join(remove(filepath.Join(dir, File)), remove(filepath.Join(dir, SSHFile)), remove(filepath.Join(dir, RequestorFile))),
		"vm %s: identity", uuid)
}

// remove removes a file that may not exist.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}
