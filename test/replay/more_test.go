package replay_test

import (
	"context"
	"encoding/hex"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
)

// recordedToken is a token that no recording shows the making of, in hexadecimal.
const recordedToken = "3b713319b2a6a1a9b36bac50ec39afe559590327d1c028b0bcbbed405c1a71f5" //nolint:gosec // of a server that is gone

// moreSession is of VMs that are made, moved and removed.
func moreSession() session {
	return session{steps: []step{
		do(func(_ context.Context, w *world) {
			req := &hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{{Id: "net1", IpGateway: "10.99.0.1", IpMask: "255.255.0.0", DomainNameServers: []string{"10.99.0.1"}}}}
			if _, err := w.networks().UpdateSubnets(w.t.Context(), req); err != nil {
				w.t.Fatal(err)
			}
			w.pool("10.99.1.5", "10.99.1.11", "10.99.1.12")
		}),
		play("subnet-add-second", "vm-create-image-url"),
		remake("10.99.1.5"),
		changed("vm-create-image-url", asItIs),
		play("migrating-set-denied", "migrating-set", "migrating-set-info-after", "migrating-prepare-owner", "migrating-set-owner", "migrating-set-owner-info",
			"migrating-unset-owner", "migrating-unset-again", "migrating-owners-clear"),
		play("change-subnet", "change-subnet-no-such"),
		do(func(ctx context.Context, w *world) { w.unpool(ctx, "10.99.1.5") }), // the stock server had others before it in its list
		play("change-subnet-back"),
		do(func(ctx context.Context, w *world) {
			w.unpool(ctx, "10.98.1.1")
			w.pool("10.99.1.6", "10.99.1.9", "10.99.1.22")
		}),
		play("vm-create-image-url-file"),
		remake("10.99.1.6"),
		play("vm-create-secondary-subnet", "vm-acknowledge-twice"),
		remake("10.99.1.6"),
		changed("vm-create-secondary-subnet", asItIs),
		play("vm-info-secondary-subnet", "vm-commit-not-imported", "token-lifetime-errors", "token-not-owner", "token-get-use-discard",
			"identity-replace-erase", "identity-replace-no-provider", "identity-replace-credentials-bogus", "export-bad-cookie"),
		do(func(_ context.Context, w *world) { w.Restart() }),
		play("vm-acknowledge-without-timer"),
		do(func(ctx context.Context, w *world) {
			res, err := hypervisorv1.NewIdentityServiceClient(w.Dial(true)).GetVmAccessToken(ctx, &hypervisorv1.GetVmAccessTokenRequest{Vm: "10.99.1.6", Lifetime: durationpb.New(time.Hour)})
			if err != nil {
				w.t.Fatal(err)
			}
			w.values[recordedToken] = hex.EncodeToString(res.GetToken())
		}),
		play("token-used-by-non-owner"),
		play("vm-create-url-user-data-hang"),
		remake("10.99.1.9"),
		play("vm-create-qcow2"),
		remake("10.99.1.9"),
		changed("vm-create-qcow2", asItIs),
		play("vm-info-qcow2", "volume-resize-qcow2"),
		remake("10.99.1.9"),
		do(func(ctx context.Context, w *world) {
			w.create(ctx, "10.99.1.22", "grp", func(s *hypervisorv1.CreateVmSpec) { s.VmInfo.OwnerGroups = []string{"team-a"} })
		}),
		play("owner-by-group", "owner-by-group-not"),
	}}
}

// providerSession has an identity provider.
func providerSession() session {
	return session{
		config: func(c *config.Config) { c.IdentityProvider = "https://idp.lab.test" },
		steps: []step{
			do(surroundings),
			do(func(ctx context.Context, w *world) { w.create(ctx, "10.99.1.6", "two", nil) }),
			play("host-get-identity-provider-set", "vm-create-identity-name", "identity-replace-not-a-certificate"),
		},
	}
}

// openSession lets everybody read.
func openSession() session {
	return session{
		config: func(c *config.Config) { c.AllowUnauthenticatedReads = true },
		steps: []step{
			do(surroundings), managed(), full(), do(six), given("json-changes", "json-change-tags"),
			do(func(ctx context.Context, w *world) {
				_, err := hypervisorv1.NewVmConfigurationServiceClient(w.Dial(true)).ChangeVmTags(ctx, &hypervisorv1.ChangeVmTagsRequest{
					Vm: "10.99.1.3", Tags: map[string]string{"Name": "mini", "a": "b", "env": "fm", "x": "y"},
				})
				if err != nil {
					w.t.Fatal(err)
				}
			}),
			play("unauthenticated-gob", "unauthenticated-json", "subnet-delete-fresh-server"),
		},
	}
}

// managed are the subnets as they are when a fleet manager has been there.
func managed() step {
	return do(func(ctx context.Context, w *world) {
		req := new(hypervisorv1.UpdateSubnetsRequest)
		for id, net := range map[string]string{"net1": "10.99", "net2": "10.98"} {
			req.Change = append(req.Change, &hypervisorv1.Subnet{
				Id: id, IpGateway: net + ".0.1", IpMask: "255.255.0.0", DomainName: "lab.test", DomainNameServers: []string{net + ".0.1"}, Manage: true,
			})
		}
		if _, err := w.networks().UpdateSubnets(ctx, req); err != nil {
			w.t.Fatal(err)
		}
	})
}

// unpool removes an address.
func (w *world) unpool(ctx context.Context, address string) {
	w.t.Helper()
	req := &hypervisorv1.ChangeAddressPoolRequest{AddressesToRemove: []*hypervisorv1.Address{{IpAddress: address}}}
	if _, err := w.networks().ChangeAddressPool(ctx, req); err != nil {
		w.t.Fatal(err)
	}
}
