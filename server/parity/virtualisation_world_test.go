package parity_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func (w *world) virt() hypervisorv1.VirtualisationServiceClient {
	return hypervisorv1.NewVirtualisationServiceClient(w.cc)
}

// onHost does something behind the server's back.
func (w *world) onHost(f func(d hypervisor.Driver) error) {
	w.t.Helper()
	d := w.Host.Open()
	if err := errors.Join(f(d), d.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// domain makes a machine that is no VM, off or running, with a QCOW2 disk, and returns its name.
func (w *world) domain(ctx context.Context, running bool) string {
	w.t.Helper()
	pool, id := w.storagePool(ctx), uuid.NewString()
	v := w.storageVolume(ctx, pool, hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2)
	spec := hypervisor.Spec{
		UUID: id, Name: "not ours " + id, CPUs: 2, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: v.GetPath(), Format: hypervisor.DiskQCOW2}},
		Console: hypervisor.ConsoleVNC, NICs: []hypervisor.NIC{{MAC: mac(id), Bridge: "br0"}},
	}
	w.onHost(func(d hypervisor.Driver) error {
		if err := d.Define(ctx, spec); err != nil || !running {
			return err
		}
		return d.Start(ctx, id)
	})
	return spec.Name
}

// mac returns the address of a domain's card.
func mac(id string) string { return "52:54:00:" + id[0:2] + ":" + id[2:4] + ":" + id[4:6] }

// pool makes a storage pool and returns its name.
func (w *world) storagePool(ctx context.Context) string {
	w.t.Helper()
	name := `pool "` + uuid.NewString()
	if _, err := w.virt().CreateStoragePool(ctx, &hypervisorv1.CreateStoragePoolRequest{Name: name, Path: filepath.Join(w.t.TempDir(), "pool")}); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func (w *world) storageVolume(ctx context.Context, pool string, format hypervisorv1.VolumeFormat) *hypervisorv1.StorageVolume {
	w.t.Helper()
	res, err := w.virt().CreateStorageVolume(ctx, &hypervisorv1.CreateStorageVolumeRequest{Pool: pool, Name: "vol 1", Format: format, Capacity: 1 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetVolume()
}

// filledVolume makes a raw volume that begins with text and returns its pool.
func (w *world) filledVolume(ctx context.Context, text string) string {
	w.t.Helper()
	pool := w.storagePool(ctx)
	w.storageVolume(ctx, pool, 0)
	if err := w.fill(ctx, &hypervisorv1.UploadStorageVolumeTarget{Pool: pool, Volume: "vol 1"}, text); err != nil {
		w.t.Fatal(err)
	}
	return pool
}

func (w *world) fill(ctx context.Context, target *hypervisorv1.UploadStorageVolumeTarget, text string) error {
	stream, err := w.virt().UploadStorageVolume(ctx)
	if err != nil {
		return err
	}
	for _, m := range []*hypervisorv1.UploadStorageVolumeRequest{
		{Part: &hypervisorv1.UploadStorageVolumeRequest_Target{Target: target}},
		{Part: &hypervisorv1.UploadStorageVolumeRequest_Data{Data: []byte(text)}},
	} {
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// content returns the first bytes of a pool's one volume.
func (w *world) content(ctx context.Context, pool string, length uint64) (string, error) {
	stream, err := w.virt().DownloadStorageVolume(ctx, &hypervisorv1.DownloadStorageVolumeRequest{Pool: pool, Volume: "vol 1", Length: length})
	if err != nil {
		return "", err
	}
	var all []byte
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return string(all), nil
		}
		if err != nil {
			return "", err
		}
		all = append(all, m.GetData()...)
	}
}

// virtualNetwork makes a network and returns its name.
func (w *world) virtualNetwork(ctx context.Context) string {
	w.t.Helper()
	id := uuid.NewString()[:8]
	_, err := w.virt().CreateVirtualNetwork(ctx, &hypervisorv1.CreateVirtualNetworkRequest{Name: "net-" + id, Bridge: "b" + id, Subnet: "192.0.2.0/24"})
	if err != nil {
		w.t.Fatal(err)
	}
	return "net-" + id
}

// snapshotted makes a domain with a snapshot "one".
func (w *world) snapshotted(ctx context.Context, running bool) string {
	w.t.Helper()
	name := w.domain(ctx, running)
	if _, err := w.virt().CreateDomainSnapshot(ctx, &hypervisorv1.CreateDomainSnapshotRequest{Domain: name, Name: "one"}); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func (w *world) snapshotsOf(ctx context.Context, domain string) []*hypervisorv1.DomainSnapshot {
	w.t.Helper()
	res, err := w.virt().ListDomainSnapshots(ctx, &hypervisorv1.ListDomainSnapshotsRequest{Domain: domain})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetSnapshots()
}

func (w *world) interfacesOf(ctx context.Context, domain string) []*hypervisorv1.DomainInterface {
	w.t.Helper()
	res, err := w.virt().ListDomainInterfaces(ctx, &hypervisorv1.ListDomainInterfacesRequest{Domain: domain})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetInterfaces()
}

// effect is a case whose check needs the request and, after it, the API.
func effect[Req, Res proto.Message](request func(ctx context.Context, w *world) Req, res Res, check func(ctx context.Context, w *world, req Req, res Res) error) unaryCase {
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message { return request(ctx, w) },
		func(ctx context.Context, t *testing.T, w *world, req, got proto.Message) {
			t.Helper()
			into := proto.Clone(res).(Res)
			if err := check(ctx, w, req.(Req), as(t, got, into)); err != nil {
				t.Error(err)
			}
		},
	}
}

// must returns an error that shows a message unless ok.
func must(ok bool, m proto.Message) error {
	if ok {
		return nil
	}
	return fmt.Errorf("got: %v", m)
}

// becomes is a case of a domain that goes from running or off into a state, for its API and in the answer.
func becomes[Req interface {
	proto.Message
	GetDomain() string
}, Res interface {
	proto.Message
	GetDomain() *hypervisorv1.Domain
}](request func(domain string) Req, before func(ctx context.Context, w *world) string, res Res, want hypervisorv1.DomainState,
) unaryCase {
	return effect(func(ctx context.Context, w *world) Req { return request(before(ctx, w)) }, res,
		func(ctx context.Context, w *world, req Req, res Res) error {
			now, err := w.virt().GetDomain(ctx, &hypervisorv1.GetDomainRequest{Domain: req.GetDomain()})
			if err != nil {
				return err
			}
			return must(now.GetDomain().GetState() == want && res.GetDomain().GetState() == want, now)
		})
}

const (
	off     = hypervisorv1.DomainState_DOMAIN_STATE_OFF
	running = hypervisorv1.DomainState_DOMAIN_STATE_RUNNING
	paused  = hypervisorv1.DomainState_DOMAIN_STATE_PAUSED
)

func domainOff(ctx context.Context, w *world) string     { return w.domain(ctx, false) }
func domainRunning(ctx context.Context, w *world) string { return w.domain(ctx, true) }
func domainPaused(ctx context.Context, w *world) string {
	name := w.domain(ctx, true)
	if _, err := w.virt().PauseDomain(ctx, &hypervisorv1.PauseDomainRequest{Domain: name}); err != nil {
		w.t.Fatal(err)
	}
	return name
}
