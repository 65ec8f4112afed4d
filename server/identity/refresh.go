package identity

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// RequestorFile is the requestor certificate of a VM whose identity is refreshed, in its folder. The key is the host's.
	RequestorFile = "identity-requestor.pem"
	// SSHFile is the VM's SSH certificate.
	SSHFile = "identity-ssh-cert.pub"
	// vmKeyBits is the length of a VM's own key, which never leaves the host but to the guest.
	vmKeyBits = 2048
	// After a failure the issuer is asked again after retryFirst, then after twice the time each time, up to retryLast.
	retryFirst = 5 * time.Second
	retryLast  = 5 * time.Minute
)

// refreshers are the VMs whose identities are refreshed. The zero value is ready to use.
type refreshers struct {
	mu   sync.Mutex
	byVM map[string]context.CancelFunc
	all  sync.WaitGroup
}

// start runs f for a VM, in the place of what ran for it. It goes on when the caller has gone; Close ends it.
func (r *refreshers) start(ctx context.Context, uuid string, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byVM == nil {
		r.byVM = make(map[string]context.CancelFunc)
	}
	if stop := r.byVM[uuid]; stop != nil {
		stop()
	}
	r.byVM[uuid] = cancel
	r.all.Go(func() { f(ctx) })
}

func (r *refreshers) stop(uuid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stop := r.byVM[uuid]; stop != nil {
		stop()
		delete(r.byVM, uuid)
	}
}

func (r *refreshers) runs(uuid string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byVM[uuid] != nil
}

// Close ends the refreshing; what is there stays.
func (s *Service) Close() {
	s.refreshers.mu.Lock()
	for _, stop := range s.refreshers.byVM {
		stop()
	}
	s.refreshers.mu.Unlock()
	s.refreshers.all.Wait()
}

// Resume goes on with the refreshing of identities after a restart. A VM for which that is not possible keeps what it has; the log says why.
func (s *Service) Resume(ctx context.Context, vms []*hypervisorv1.VmInfo) {
	for _, info := range vms {
		requestor, err := s.storedRequestor(info.GetUuid())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			s.Log.LogAttrs(ctx, slog.LevelError, "the identity of a VM is not refreshed any more", slog.String("vm", info.GetUuid()), slog.Any("error", err))
			continue
		}
		s.refresh(ctx, info.GetUuid(), requestor, info.GetIdentityExpires().AsTime())
	}
}

// storedRequestor reads a VM's requestor certificate and joins it with the host's key.
func (s *Service) storedRequestor(uuid string) (tls.Certificate, error) {
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return tls.Certificate{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, RequestorFile))
	if err != nil {
		return tls.Certificate{}, err
	}
	return s.requestor(text)
}

// requestor joins a requestor certificate, PEM, with the host's key.
func (s *Service) requestor(text []byte) (tls.Certificate, error) {
	const field = "identity_requestor_certificate"
	key, err := s.Key.get()
	if err != nil {
		return tls.Certificate{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return tls.Certificate{}, fault.New(fault.InvalidArgument, "%s: is no certificate in PEM form", field)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return tls.Certificate{}, fault.As(fault.InvalidArgument, err, "%s", field)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return tls.Certificate{}, fault.New(fault.InvalidArgument, "%s: is for another key; request one for the key that GetPublicKey returns", field)
	}
	return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key, Leaf: leaf}, nil
}

// refresh has the VM's certificates and the requestor's renewed when two thirds of their time are over.
func (s *Service) refresh(ctx context.Context, uuid string, requestor tls.Certificate, expires time.Time) {
	s.refreshers.start(ctx, uuid, func(ctx context.Context) {
		retry := retryFirst
		for wait := s.until(expires, requestor.Leaf.NotAfter); s.sleep(ctx, wait); {
			next, until, err := s.renew(ctx, uuid, requestor)
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				s.Log.LogAttrs(ctx, slog.LevelWarn, "the identity of a VM could not be refreshed", slog.String("vm", uuid), slog.Any("error", err), slog.Duration("again_in", retry))
				wait, retry = retry, min(2*retry, retryLast)
				continue
			}
			requestor, retry = next, retryFirst
			wait = s.until(until, requestor.Leaf.NotAfter)
		}
	})
}

// until is the time to wait before the first of two certificates should be renewed.
func (s *Service) until(ends ...time.Time) time.Duration {
	least := time.Duration(1<<63 - 1)
	for _, end := range ends {
		least = min(least, end.Sub(s.Now())*2/3)
	}
	return max(0, least)
}

// sleep returns false if ctx ended.
func (s *Service) sleep(ctx context.Context, d time.Duration) bool {
	after := s.After
	if after == nil {
		after = time.After
	}
	select {
	case <-after(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// renew renews the requestor certificate and then the VM's own.
func (s *Service) renew(ctx context.Context, uuid string, requestor tls.Certificate) (tls.Certificate, time.Time, error) {
	key, err := s.Key.get()
	if err != nil {
		return requestor, time.Time{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return requestor, time.Time{}, fault.As(fault.Internal, err, "host key")
	}
	text, err := s.Issuer.RenewRequestor(ctx, requestor, der)
	if err != nil {
		return requestor, time.Time{}, err
	}
	if requestor, err = s.requestor(text); err != nil {
		return requestor, time.Time{}, err
	}
	record, release, err := s.Operations.Acquire(ctx, uuid)
	if err != nil {
		return requestor, time.Time{}, err
	}
	defer release()
	if ctx.Err() != nil { // the VM was given another identity while its lock was waited for
		return requestor, time.Time{}, ctx.Err()
	}
	expires, err := s.issue(ctx, record, requestor, text)
	return requestor, expires, err
}

// issue gets the VM's certificates and keeps them. The caller holds its lock.
func (s *Service) issue(ctx context.Context, record *hypervisorv1.LocalVmInfo, requestor tls.Certificate, text []byte) (time.Time, error) {
	uuid := record.GetVmInfo().GetUuid()
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return time.Time{}, err
	}
	pair, line, err := s.certificates(ctx, requestor)
	if err != nil {
		return time.Time{}, err
	}
	content, err := encode(pair)
	if err != nil {
		return time.Time{}, err
	}
	defer clear(content)
	for name, b := range map[string][]byte{File: content, SSHFile: line, RequestorFile: text} {
		if err := atomicfile.Write(filepath.Join(dir, name), b); err != nil {
			return time.Time{}, fault.Wrap(err, "vm %s: identity", uuid)
		}
	}
	_, err = s.Operations.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.IdentityName, r.VmInfo.IdentityExpires = pair.Leaf.Subject.CommonName, timestamppb.New(pair.Leaf.NotAfter)
		return nil
	})
	return pair.Leaf.NotAfter, err
}

// certificates makes a key for the VM and has it certified, for X.509 and for SSH.
func (s *Service) certificates(ctx context.Context, requestor tls.Certificate) (tls.Certificate, []byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, vmKeyBits)
	if err != nil {
		return tls.Certificate{}, nil, fault.As(fault.Internal, err, "identity key")
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return tls.Certificate{}, nil, fault.As(fault.Internal, err, "identity key")
	}
	text, err := s.Issuer.Certificate(ctx, requestor, X509, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pair, err := match(text, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	public, err := ssh.NewPublicKey(&key.PublicKey)
	if err != nil {
		return tls.Certificate{}, nil, fault.As(fault.Internal, err, "identity key")
	}
	line, err := s.Issuer.Certificate(ctx, requestor, SSH, ssh.MarshalAuthorizedKey(public))
	return pair, line, err
}

// match joins a certificate with the key that it must be for.
func match(text []byte, key *rsa.PrivateKey) (tls.Certificate, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, fault.As(fault.Internal, err, "identity key")
	}
	defer clear(der)
	pair, err := tls.X509KeyPair(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return pair, fault.As(fault.DataLoss, err, "identity provider: the certificate that it sent")
}
