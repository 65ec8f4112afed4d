package replay_test

import (
	"context"
	"fmt"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// six are the VMs of the later recordings.
func six(ctx context.Context, w *world) {
	w.create(ctx, "10.99.1.4", "data1", func(s *hypervisorv1.CreateVmSpec) {
		s.SecondaryVolumes = []*hypervisorv1.Volume{{Size: 24 << 20}, {Size: 12 << 20}}
	})
	w.create(ctx, "10.99.1.6", "two", func(s *hypervisorv1.CreateVmSpec) {
		s.VmInfo.SecondarySubnetIds, s.VmInfo.SecondaryAddresses = []string{"net2"}, []*hypervisorv1.Address{{IpAddress: "10.98.1.2"}}
	})
	w.create(ctx, "10.99.1.8", "parted", func(s *hypervisorv1.CreateVmSpec) { s.ImageDataSize = 8 << 20 })
	w.create(ctx, "10.99.1.11", "url1", func(s *hypervisorv1.CreateVmSpec) {
		s.ImageDataSize, s.VmInfo.ImageUrl = 0, w.images.URL+"/boot2k.img"
	})
}

// full makes the second VM, which has nearly every field set.
func full() step {
	return func(t *testing.T, w *world) {
		t.Helper()
		changed("vm-create-min-fields", asItIs)(t, w)
		fullest()(t, w)
	}
}

func fullest() step {
	return changed("vm-create-all-fields", func(kind string, request map[string]any) {
		if asItIs(kind, request); kind == "CreateVmRequest" {
			info := request["VmInfo"].(map[string]any)
			delete(info, "ExtraKernelOptions")
		}
	})
}

// jsonSession speaks JSON.
func jsonSession() session {
	return session{steps: []step{
		do(surroundings), full(), do(six),
		do(func(ctx context.Context, w *world) { w.configure(ctx, "mini2", "three") }),
		play("json-basic", "vm-list-unsorted", "local-upgrade-refused"),
		play("json-512-byte-request", "json-after-undecodable", "json-carriage-return", "json-method-and-request-in-one-write", "json-multi-line-request",
			"json-enum-as-number", "json-user-data-none"),
		play("json-lifecycle"),
		gone("10.99.1.9"),
		play("json-vm-create-aborted"),
		gone("10.99.1.9"),
		play("json-changes", "json-host-get-capacity", "json-vm-list", "json-vm-info", "json-vm-infos", "json-change-tags", "connect-no-method-powers-stock",
			"connect-no-method-powers"),
		play("json-vm-create-url-less", "json-vm-start", "json-vm-destroy"),
		gone("10.99.1.9"),
		play("json-vm-create-image"),
		play("json-userdata-get", "json-userdata-replace", "json-volume-get"),
	}}
}

// configure gives the third VM the name and the tag that recordings presume.
func (w *world) configure(ctx context.Context, hostname, env string) {
	w.t.Helper()
	c := hypervisorv1.NewVmConfigurationServiceClient(w.Dial(true))
	_, err := c.ChangeVmHostname(ctx, &hypervisorv1.ChangeVmHostnameRequest{Vm: "10.99.1.3", Hostname: hostname})
	if err == nil {
		_, err = c.ChangeVmTags(ctx, &hypervisorv1.ChangeVmTagsRequest{Vm: "10.99.1.3", Tags: map[string]string{"Name": "mini", "env": env}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func jsonExtras() map[string]extras {
	return map[string]extras{
		"json-vm-create-image": {during: map[string]func(context.Context, *player){"eof#1": func(_ context.Context, p *player) {
			answer, err := p.conns[1].readAnswer()
			for err == nil && progress(answer) {
				answer, err = p.conns[1].readAnswer()
			}
			p.mismatch("more", "", fmt.Sprint(answer, err))
		}}},
	}
}
