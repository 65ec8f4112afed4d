package parity_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// trustCases are those of what a VM is trusted with: user data, tokens, identities.
func trustCases() map[string]unaryCase {
	return map[string]unaryCase{
		"DiscardVmOldUserData": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DiscardVmOldUserDataRequest{Vm: w.vmWithUserData(ctx, "old", "new")}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				vm := req.(*hypervisorv1.DiscardVmOldUserDataRequest).GetVm()
				_, err := w.userData().RestoreVmUserData(ctx, &hypervisorv1.RestoreVmUserDataRequest{Vm: vm})
				if status.Code(err) != codes.NotFound || w.userDataOf(ctx, vm) != "new" {
					t.Errorf("restore: %v, user data %q", err, w.userDataOf(ctx, vm))
				}
			},
		},
		"RestoreVmUserData": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.RestoreVmUserDataRequest{Vm: w.vmWithUserData(ctx, "old", "new")}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				if got := w.userDataOf(ctx, req.(*hypervisorv1.RestoreVmUserDataRequest).GetVm()); got != "old" {
					t.Errorf("user data %q", got)
				}
			},
		},
		"GetVmAccessToken": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.GetVmAccessTokenRequest{Vm: w.vm(ctx, false), Lifetime: durationpb.New(time.Hour)}
			},
			func(ctx context.Context, t *testing.T, w *world, req, res proto.Message) {
				t.Helper()
				vm, token := req.(*hypervisorv1.GetVmAccessTokenRequest).GetVm(), as(t, res, &hypervisorv1.GetVmAccessTokenResponse{}).GetToken()
				if err := w.bearerMay(ctx, vm, token); len(token) != 32 || err != nil {
					t.Errorf("the bearer of the token: %v", err)
				}
				if err := w.bearerMay(ctx, vm, make([]byte, 32)); status.Code(err) != codes.PermissionDenied {
					t.Errorf("the bearer of a wrong token: %v", err)
				}
			},
		},
		"DiscardVmAccessToken": {
			func(ctx context.Context, w *world) proto.Message {
				vm := w.vm(ctx, false)
				res, err := w.identity().GetVmAccessToken(ctx, &hypervisorv1.GetVmAccessTokenRequest{Vm: vm, Lifetime: durationpb.New(time.Hour)})
				if err != nil {
					w.t.Fatal(err)
				}
				return &hypervisorv1.DiscardVmAccessTokenRequest{Vm: vm, AccessToken: res.GetToken()}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				r := req.(*hypervisorv1.DiscardVmAccessTokenRequest)
				if err := w.bearerMay(ctx, r.GetVm(), r.GetAccessToken()); status.Code(err) != codes.PermissionDenied {
					t.Errorf("the bearer of a discarded token: %v", err)
				}
			},
		},
		"ReplaceVmCredentials": {
			func(ctx context.Context, w *world) proto.Message { return w.credentials(w.vm(ctx, false)) },
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				info := w.info(ctx, req.(*hypervisorv1.ReplaceVmCredentialsRequest).GetVm())
				if info.GetIdentityName() != "role" || info.GetIdentityExpires().AsTime().Before(time.Now()) {
					t.Errorf("identity: %v", info)
				}
			},
		},
		"ReplaceVmIdentity": {
			func(ctx context.Context, w *world) proto.Message {
				vm := w.vm(ctx, false)
				if _, err := w.identity().ReplaceVmCredentials(ctx, w.credentials(vm)); err != nil {
					w.t.Fatal(err)
				}
				return &hypervisorv1.ReplaceVmIdentityRequest{Vm: vm}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				info := w.info(ctx, req.(*hypervisorv1.ReplaceVmIdentityRequest).GetVm())
				if info.GetIdentityName() != "" || info.GetIdentityExpires() != nil {
					t.Errorf("identity: %v", info)
				}
			},
		},
		"GetIdentityProvider": {
			func(context.Context, *world) proto.Message { return &hypervisorv1.GetIdentityProviderRequest{} },
			func(_ context.Context, t *testing.T, w *world, _, res proto.Message) {
				t.Helper()
				if got := as(t, res, &hypervisorv1.GetIdentityProviderResponse{}).GetBaseUrl(); got == "" || got != w.Config.IdentityProvider {
					t.Errorf("provider %q", got)
				}
			},
		},
		"GetPublicKey": {
			func(context.Context, *world) proto.Message { return &hypervisorv1.GetPublicKeyRequest{} },
			func(ctx context.Context, t *testing.T, w *world, _, res proto.Message) {
				t.Helper()
				first := as(t, res, &hypervisorv1.GetPublicKeyResponse{}).GetKeyPem()
				again, err := w.identity().GetPublicKey(ctx, &hypervisorv1.GetPublicKeyRequest{})
				if block, _ := pem.Decode(first); block == nil || err != nil || !bytes.Equal(first, again.GetKeyPem()) {
					t.Errorf("key %s, then %s, %v", first, again.GetKeyPem(), err)
				}
			},
		},
	}
}

func (w *world) userData() hypervisorv1.UserDataServiceClient {
	return hypervisorv1.NewUserDataServiceClient(w.cc)
}

func (w *world) identity() hypervisorv1.IdentityServiceClient {
	return hypervisorv1.NewIdentityServiceClient(w.cc)
}

// bearerMay returns how it ends when a stranger with a token reads a VM's user data.
func (w *world) bearerMay(ctx context.Context, vm string, token []byte) error {
	w.t.Helper()
	cc := w.DialAs(w.ClientCertificate("stranger"))
	stream, err := hypervisorv1.NewUserDataServiceClient(cc).GetVmUserData(ctx, &hypervisorv1.GetVmUserDataRequest{Vm: vm, AccessToken: token})
	if err != nil {
		return err
	}
	_, err = readAll(func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
	return err
}

// credentials is a request with an identity for a VM.
func (w *world) credentials(vm string) *hypervisorv1.ReplaceVmCredentialsRequest {
	w.t.Helper()
	pair := w.ClientCertificate("role")
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	return &hypervisorv1.ReplaceVmCredentialsRequest{
		Vm: vm, IdentityCertificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		IdentityKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}
}
