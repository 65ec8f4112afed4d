package parity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

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

func domainCases() map[string]unaryCase {
	return map[string]unaryCase{
		"ListDomains": effect(func(ctx context.Context, w *world) *hypervisorv1.ListDomainsRequest {
			w.domain(ctx, false)
			w.vm(ctx, false)
			return &hypervisorv1.ListDomainsRequest{}
		}, &hypervisorv1.ListDomainsResponse{}, func(_ context.Context, _ *world, _ *hypervisorv1.ListDomainsRequest, res *hypervisorv1.ListDomainsResponse) error {
			managed := map[bool]int{}
			for _, d := range res.GetDomains() {
				managed[d.GetManaged()]++
			}
			return must(managed[true] > 0 && managed[false] > 0, res)
		}),
		"GetDomain": effect(func(ctx context.Context, w *world) *hypervisorv1.GetDomainRequest {
			return &hypervisorv1.GetDomainRequest{Domain: w.vm(ctx, false)} // by its IP address
		}, &hypervisorv1.GetDomainResponse{}, func(_ context.Context, _ *world, req *hypervisorv1.GetDomainRequest, res *hypervisorv1.GetDomainResponse) error {
			d := res.GetDomain()
			return must(d.GetManaged() && d.GetVmIpAddress() == req.GetDomain() && d.GetMemoryBytes() == 64<<20 && d.GetState() == off && d.GetPersistent(), res)
		}),
		"StartDomain": becomes(func(d string) *hypervisorv1.StartDomainRequest { return &hypervisorv1.StartDomainRequest{Domain: d} }, domainOff,
			&hypervisorv1.StartDomainResponse{}, running),
		"ShutdownDomain": becomes(func(d string) *hypervisorv1.ShutdownDomainRequest {
			return &hypervisorv1.ShutdownDomainRequest{Domain: d}
		}, domainRunning,
			&hypervisorv1.ShutdownDomainResponse{}, off),
		"KillDomain": becomes(func(d string) *hypervisorv1.KillDomainRequest { return &hypervisorv1.KillDomainRequest{Domain: d} }, domainPaused,
			&hypervisorv1.KillDomainResponse{}, off),
		"RebootDomain": becomes(func(d string) *hypervisorv1.RebootDomainRequest { return &hypervisorv1.RebootDomainRequest{Domain: d} }, domainRunning,
			&hypervisorv1.RebootDomainResponse{}, running),
		"PauseDomain": becomes(func(d string) *hypervisorv1.PauseDomainRequest { return &hypervisorv1.PauseDomainRequest{Domain: d} }, domainRunning,
			&hypervisorv1.PauseDomainResponse{}, paused),
		"ResumeDomain": becomes(func(d string) *hypervisorv1.ResumeDomainRequest { return &hypervisorv1.ResumeDomainRequest{Domain: d} }, domainPaused,
			&hypervisorv1.ResumeDomainResponse{}, running),
		"SendDomainKeys": effect(func(ctx context.Context, w *world) *hypervisorv1.SendDomainKeysRequest {
			return &hypervisorv1.SendDomainKeysRequest{Domain: w.domain(ctx, true), Keys: []string{"ctrl-alt-del", "KEY_A", "59"}}
		}, &hypervisorv1.SendDomainKeysResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.SendDomainKeysRequest, _ *hypervisorv1.SendDomainKeysResponse,
		) error {
			d, err := w.virt().GetDomain(ctx, &hypervisorv1.GetDomainRequest{Domain: req.GetDomain()})
			if err != nil {
				return err
			}
			keys, err := w.Host.Keys(d.GetDomain().GetUuid())
			if fmt.Sprint(keys) != "[[29 56 111 30 59]]" {
				err = errors.Join(err, fmt.Errorf("keys: %v", keys))
			}
			return err
		}),
		"GetDomainScreenshot": effect(func(ctx context.Context, w *world) *hypervisorv1.GetDomainScreenshotRequest {
			return &hypervisorv1.GetDomainScreenshotRequest{Domain: w.domain(ctx, true)}
		}, &hypervisorv1.GetDomainScreenshotResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.GetDomainScreenshotRequest, res *hypervisorv1.GetDomainScreenshotResponse,
		) error {
			c, err := png.DecodeConfig(bytes.NewReader(res.GetPng()))
			if err == nil && (uint32(c.Width) != res.GetWidth() || uint32(c.Height) != res.GetHeight() || c.Width == 0) {
				err = fmt.Errorf("%d x %d, not %d x %d", c.Width, c.Height, res.GetWidth(), res.GetHeight())
			}
			return err
		}),
		"GetDomainConsole": effect(func(ctx context.Context, w *world) *hypervisorv1.GetDomainConsoleRequest {
			return &hypervisorv1.GetDomainConsoleRequest{Domain: w.domain(ctx, true)}
		}, &hypervisorv1.GetDomainConsoleResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.GetDomainConsoleRequest, res *hypervisorv1.GetDomainConsoleResponse,
		) error {
			return must(res.GetConsole().GetVncSocket() != "" && res.GetConsole().GetSerialSocket() != "", res)
		}),
		"ListDomainSnapshots": effect(func(ctx context.Context, w *world) *hypervisorv1.ListDomainSnapshotsRequest {
			return &hypervisorv1.ListDomainSnapshotsRequest{Domain: w.snapshotted(ctx, true)}
		}, &hypervisorv1.ListDomainSnapshotsResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.ListDomainSnapshotsRequest, res *hypervisorv1.ListDomainSnapshotsResponse,
		) error {
			s := res.GetSnapshots()
			return must(len(s) == 1 && s[0].GetName() == "one" && s[0].GetState() == running && s[0].GetCurrent() && s[0].GetCreatedOn() != nil, res)
		}),
		"CreateDomainSnapshot": effect(func(ctx context.Context, w *world) *hypervisorv1.CreateDomainSnapshotRequest {
			return &hypervisorv1.CreateDomainSnapshotRequest{Domain: w.vm(ctx, false), Name: `two "<`}
		}, &hypervisorv1.CreateDomainSnapshotResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.CreateDomainSnapshotRequest, res *hypervisorv1.CreateDomainSnapshotResponse,
		) error {
			v := w.info(ctx, req.GetDomain()).GetVolumes()[0].GetSnapshots() // of a VM: SnapshotVm has made it
			return must(len(v) == 1 && len(w.snapshotsOf(ctx, req.GetDomain())) == 1 && res.GetSnapshot().GetName() == req.GetName(), res)
		}),
		"RevertDomainSnapshot": becomes(func(d string) *hypervisorv1.RevertDomainSnapshotRequest {
			return &hypervisorv1.RevertDomainSnapshotRequest{Domain: d, Name: "one"}
		}, func(ctx context.Context, w *world) string {
			name := w.snapshotted(ctx, true)
			if _, err := w.virt().KillDomain(ctx, &hypervisorv1.KillDomainRequest{Domain: name}); err != nil {
				w.t.Fatal(err)
			}
			return name
		}, &hypervisorv1.RevertDomainSnapshotResponse{}, running),
		"DeleteDomainSnapshot": effect(func(ctx context.Context, w *world) *hypervisorv1.DeleteDomainSnapshotRequest {
			return &hypervisorv1.DeleteDomainSnapshotRequest{Domain: w.snapshotted(ctx, false), Name: "one"}
		}, &hypervisorv1.DeleteDomainSnapshotResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.DeleteDomainSnapshotRequest, res *hypervisorv1.DeleteDomainSnapshotResponse,
		) error {
			return must(len(w.snapshotsOf(ctx, req.GetDomain())) == 0, res)
		}),
		"ListDomainInterfaces": effect(func(ctx context.Context, w *world) *hypervisorv1.ListDomainInterfacesRequest {
			return &hypervisorv1.ListDomainInterfacesRequest{Domain: w.domain(ctx, false)}
		}, &hypervisorv1.ListDomainInterfacesResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.ListDomainInterfacesRequest, res *hypervisorv1.ListDomainInterfacesResponse,
		) error {
			return must(len(res.GetInterfaces()) == 1 && res.GetInterfaces()[0].GetBridge() == "br0", res)
		}),
		"AttachDomainInterface": effect(func(ctx context.Context, w *world) *hypervisorv1.AttachDomainInterfaceRequest {
			return &hypervisorv1.AttachDomainInterfaceRequest{Domain: w.domain(ctx, true), Network: w.virtualNetwork(ctx), Model: "e1000"}
		}, &hypervisorv1.AttachDomainInterfaceResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.AttachDomainInterfaceRequest, res *hypervisorv1.AttachDomainInterfaceResponse,
		) error {
			all := w.interfacesOf(ctx, req.GetDomain())
			return must(len(all) == 2 && proto.Equal(all[1], res.GetInterface()) && all[1].GetNetwork() == req.GetNetwork() && all[1].GetModel() == "e1000", res)
		}),
		"DetachDomainInterface": effect(func(ctx context.Context, w *world) *hypervisorv1.DetachDomainInterfaceRequest {
			d := w.domain(ctx, true)
			return &hypervisorv1.DetachDomainInterfaceRequest{Domain: d, MacAddress: w.interfacesOf(ctx, d)[0].GetMacAddress()}
		}, &hypervisorv1.DetachDomainInterfaceResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.DetachDomainInterfaceRequest, res *hypervisorv1.DetachDomainInterfaceResponse,
		) error {
			return must(len(w.interfacesOf(ctx, req.GetDomain())) == 0, res)
		}),
		"GetDomainStats": effect(func(ctx context.Context, w *world) *hypervisorv1.GetDomainStatsRequest {
			req := &hypervisorv1.GetDomainStatsRequest{Domain: w.domain(ctx, true)}
			if _, err := w.virt().GetDomainStats(ctx, req); err != nil {
				w.t.Fatal(err)
			}
			return req
		}, &hypervisorv1.GetDomainStatsResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.GetDomainStatsRequest, res *hypervisorv1.GetDomainStatsResponse,
		) error {
			c := res.GetStats().GetCpu() // a fake's guest uses a quarter of its processors
			return must(c.GetVcpus() == 2 && c.GetInterval() != nil && c.GetUsagePercent() > 20 && c.GetUsagePercent() < 30 &&
				res.GetStats().GetMemory().GetTotalKib() == 64<<10 && len(res.GetStats().GetDisks().GetEach()) == 1, res)
		}),
		"ListDomainStats": effect(func(ctx context.Context, w *world) *hypervisorv1.ListDomainStatsRequest {
			w.domain(ctx, true)
			return &hypervisorv1.ListDomainStatsRequest{PageSize: 1}
		}, &hypervisorv1.ListDomainStatsResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.ListDomainStatsRequest, res *hypervisorv1.ListDomainStatsResponse,
		) error {
			return must(len(res.GetStats()) == 1 && res.GetStats()[0].GetCpu().GetVcpus() > 0 && res.GetStats()[0].GetMemory().GetUsedKib() > 0, res)
		}),
		"GetHostStats": effect(func(ctx context.Context, w *world) *hypervisorv1.GetHostStatsRequest {
			if _, err := w.virt().GetHostStats(ctx, &hypervisorv1.GetHostStatsRequest{}); err != nil {
				w.t.Fatal(err)
			}
			return &hypervisorv1.GetHostStatsRequest{}
		}, &hypervisorv1.GetHostStatsResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.GetHostStatsRequest, res *hypervisorv1.GetHostStatsResponse,
		) error {
			s := res.GetStats() // a fake's processors are idle half of the time
			return must(s.GetCpus() == 8 && s.GetMemoryTotalKib() == 64<<20 && s.GetUsagePercent() > 49 && s.GetUsagePercent() < 51, res)
		}),
	}
}

func virtualisationStreams() map[string]streamCase {
	target := func(ctx context.Context, w *world) *hypervisorv1.UploadStorageVolumeTarget {
		return &hypervisorv1.UploadStorageVolumeTarget{Pool: w.storagePool(ctx), Volume: "vol 1", Create: true, SizeBytes: 1 << 20, Format: "raw"}
	}
	holds := func(ctx context.Context, w *world, pool string) error {
		got, err := w.content(ctx, pool, 7)
		if err == nil && got != "content" {
			err = fmt.Errorf("content: %q", got)
		}
		return err
	}
	return map[string]streamCase{
		"UploadStorageVolume": {
			func(ctx context.Context, w *world) error {
				to := target(ctx, w)
				if err := w.fill(ctx, to, "content"); err != nil {
					return err
				}
				if err := holds(ctx, w, to.GetPool()); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(w.Config.ImageDir, "of-a-file"), []byte("content of a file"), 0o600); err != nil {
					return err
				}
				of := &hypervisorv1.UploadStorageVolumeTarget{Pool: w.storagePool(ctx), Volume: "vol 1", Create: true, ImageFile: "of-a-file"}
				return errors.Join(w.fill(ctx, of, ""), holds(ctx, w, of.GetPool()))
			},
			func(ctx context.Context, w *world, r restTransport) error {
				to := target(ctx, w)
				body := `{"target":{"pool":` + strconv.Quote(to.GetPool()) + `,"volume":"vol 1","create":true,"size_bytes":"1048576"}}` + "\n" + `{"data":"Y29udGVudA=="}`
				if _, err := r.do(ctx, http.MethodPost, r.base+"/v1/virtualisation/pools/volumes:upload", strings.NewReader(body)); err != nil {
					return err
				}
				return holds(ctx, w, to.GetPool())
			},
		},
		"DownloadStorageVolume": {
			func(ctx context.Context, w *world) error { return holds(ctx, w, w.filledVolume(ctx, "content")) },
			func(ctx context.Context, w *world, r restTransport) error {
				path := "/v1/virtualisation/pools/" + url.PathEscape(w.filledVolume(ctx, "content")) + "/volumes/vol%201/content?length=7"
				got, err := r.do(ctx, http.MethodGet, r.base+path, http.NoBody)
				if err == nil && !bytes.Contains(got, []byte("Y29udGVudA==")) {
					err = fmt.Errorf("answer: %s", got)
				}
				return err
			},
		},
	}
}

func wrongsOfVirtualisation() map[string]wrong {
	const none = "no such domain"
	vm := func(req func(vm string) proto.Message, says string) wrong {
		return wrong{func(ctx context.Context, w *world) proto.Message { return req(w.vm(ctx, false)) }, codes.FailedPrecondition, says}
	}
	return map[string]wrong{
		"ListDomains":         fixed(&hypervisorv1.ListDomainsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"GetDomain":           fixed(&hypervisorv1.GetDomainRequest{Domain: none}, codes.NotFound, none),
		"StartDomain":         fixed(&hypervisorv1.StartDomainRequest{Domain: none}, codes.NotFound, none),
		"ShutdownDomain":      vm(func(vm string) proto.Message { return &hypervisorv1.ShutdownDomainRequest{Domain: vm} }, "it is stopped"),
		"KillDomain":          fixed(&hypervisorv1.KillDomainRequest{}, codes.InvalidArgument, "domain"),
		"RebootDomain":        vm(func(vm string) proto.Message { return &hypervisorv1.RebootDomainRequest{Domain: vm} }, "it is stopped"),
		"PauseDomain":         vm(func(vm string) proto.Message { return &hypervisorv1.PauseDomainRequest{Domain: vm} }, "StopVm"),
		"ResumeDomain":        vm(func(vm string) proto.Message { return &hypervisorv1.ResumeDomainRequest{Domain: vm} }, "StartVm"),
		"SendDomainKeys":      fixed(&hypervisorv1.SendDomainKeysRequest{Domain: none, Keys: []string{"KEY_NONSENSE"}}, codes.InvalidArgument, "KEY_NONSENSE"),
		"GetDomainScreenshot": vm(func(vm string) proto.Message { return &hypervisorv1.GetDomainScreenshotRequest{Domain: vm} }, "was not started"),
		"GetDomainConsole":    fixed(&hypervisorv1.GetDomainConsoleRequest{Domain: none}, codes.NotFound, none),
		"ListDomainSnapshots": fixed(&hypervisorv1.ListDomainSnapshotsRequest{Domain: none}, codes.NotFound, none),
		"CreateDomainSnapshot": fixed(&hypervisorv1.CreateDomainSnapshotRequest{Domain: none, Name: "../x"}, codes.InvalidArgument,
			"name"),
		"RevertDomainSnapshot": {func(ctx context.Context, w *world) proto.Message {
			return &hypervisorv1.RevertDomainSnapshotRequest{Domain: w.domain(ctx, false), Name: "nothing"}
		}, codes.NotFound, "nothing"},
		"DeleteDomainSnapshot": fixed(&hypervisorv1.DeleteDomainSnapshotRequest{Domain: none, Name: "x"}, codes.NotFound, none),
		"ListDomainInterfaces": fixed(&hypervisorv1.ListDomainInterfacesRequest{Domain: none}, codes.NotFound, none),
		"AttachDomainInterface": vm(func(vm string) proto.Message {
			return &hypervisorv1.AttachDomainInterfaceRequest{Domain: vm, Bridge: "br0"}
		},
			"ChangeVmSubnet"),
		"DetachDomainInterface": fixed(&hypervisorv1.DetachDomainInterfaceRequest{Domain: none, MacAddress: "x"}, codes.InvalidArgument, "mac_address"),
		"ListStoragePools":      fixed(&hypervisorv1.ListStoragePoolsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"GetStoragePool":        fixed(&hypervisorv1.GetStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"CreateStoragePool":     fixed(&hypervisorv1.CreateStoragePoolRequest{Name: "etc", Path: "/etc"}, codes.FailedPrecondition, "/etc"),
		"StartStoragePool":      fixed(&hypervisorv1.StartStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"StopStoragePool":       fixed(&hypervisorv1.StopStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"RefreshStoragePool":    fixed(&hypervisorv1.RefreshStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"DeleteStoragePool":     fixed(&hypervisorv1.DeleteStoragePoolRequest{}, codes.InvalidArgument, "pool"),
		"ListStorageVolumes":    fixed(&hypervisorv1.ListStorageVolumesRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"GetStorageVolume":      fixed(&hypervisorv1.GetStorageVolumeRequest{Pool: "nowhere", Volume: "v"}, codes.NotFound, "nowhere"),
		"CreateStorageVolume":   fixed(&hypervisorv1.CreateStorageVolumeRequest{Pool: "nowhere", Name: "a/b", Capacity: 512}, codes.InvalidArgument, "name"),
		"CloneStorageVolume":    fixed(&hypervisorv1.CloneStorageVolumeRequest{Pool: "p", Volume: "v"}, codes.InvalidArgument, "target_volume"),
		"ResizeStorageVolume":   fixed(&hypervisorv1.ResizeStorageVolumeRequest{Pool: "p", Volume: "v", Capacity: 1}, codes.InvalidArgument, "capacity"),
		"DeleteStorageVolume": {func(ctx context.Context, w *world) proto.Message {
			pool := w.storagePool(ctx)
			v := w.storageVolume(ctx, pool, 0)
			id := uuid.NewString()
			spec := hypervisor.Spec{UUID: id, Name: "user " + id, CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: v.GetPath()}}}
			w.onHost(func(d hypervisor.Driver) error { return d.Define(ctx, spec) })
			return &hypervisorv1.DeleteStorageVolumeRequest{Pool: pool, Volume: "vol 1"}
		}, codes.FailedPrecondition, "user "},
		"WipeStorageVolume": fixed(&hypervisorv1.WipeStorageVolumeRequest{Pool: "nowhere", Volume: "v"}, codes.NotFound, "nowhere"),
		"UploadStorageVolume": fixed(&hypervisorv1.UploadStorageVolumeRequest{Part: &hypervisorv1.UploadStorageVolumeRequest_Target{
			Target: &hypervisorv1.UploadStorageVolumeTarget{Pool: "p", Volume: "v", ImageFile: "../../etc/passwd"},
		}}, codes.InvalidArgument, "image_file"),
		"DownloadStorageVolume": fixed(&hypervisorv1.DownloadStorageVolumeRequest{Pool: "nowhere", Volume: "v"}, codes.NotFound, "nowhere"),
		"ListVirtualNetworks":   fixed(&hypervisorv1.ListVirtualNetworksRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"GetVirtualNetwork":     fixed(&hypervisorv1.GetVirtualNetworkRequest{Network: "nowhere"}, codes.NotFound, "nowhere"),
		"CreateVirtualNetwork":  fixed(&hypervisorv1.CreateVirtualNetworkRequest{Name: "n", Subnet: "<x>"}, codes.InvalidArgument, "subnet"),
		"StartVirtualNetwork":   fixed(&hypervisorv1.StartVirtualNetworkRequest{Network: "nowhere"}, codes.NotFound, "nowhere"),
		"StopVirtualNetwork": {func(ctx context.Context, w *world) proto.Message {
			w.vm(ctx, true)
			return &hypervisorv1.StopVirtualNetworkRequest{Network: "hyperplane-default"}
		}, codes.FailedPrecondition, "UpdateSubnets"},
		"DeleteVirtualNetwork": fixed(&hypervisorv1.DeleteVirtualNetworkRequest{Network: "nowhere"}, codes.NotFound, "nowhere"),
		"GetHostStats":         fixed(&hypervisorv1.GetHostStatsRequest{Wait: durationpb.New(-time.Second)}, codes.InvalidArgument, "wait"),
		"GetDomainStats":       fixed(&hypervisorv1.GetDomainStatsRequest{Domain: none}, codes.NotFound, none),
		"ListDomainStats":      fixed(&hypervisorv1.ListDomainStatsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
	}
}

// TestDomainsThatAreVMs changes VMs as domains and looks whether their records are true.
func TestDomainsThatAreVMs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	vm := w.vm(ctx, false)
	id := w.info(ctx, vm).GetUuid()
	started, err := w.virt().StartDomain(ctx, &hypervisorv1.StartDomainRequest{Domain: vm})
	if err != nil {
		t.Fatal(err)
	}
	if d := started.GetDomain(); d.GetState() != running || !d.GetManaged() || d.GetUuid() != id || d.GetVmIpAddress() != vm {
		t.Errorf("started: %v", d)
	}
	if got := w.info(ctx, vm).GetState(); got != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("the VM is %v", got)
	}
	if _, err := w.virt().CreateDomainSnapshot(ctx, &hypervisorv1.CreateDomainSnapshotRequest{Domain: id, Name: "live"}); err != nil {
		t.Error(err)
	}
	if _, err := w.virt().RevertDomainSnapshot(ctx, &hypervisorv1.RevertDomainSnapshotRequest{Domain: id, Name: "live"}); err != nil {
		t.Error(err)
	}
	if _, kept := w.info(ctx, vm).GetVolumes()[0].GetSnapshots()["live"]; !kept {
		t.Error("reverting has removed the snapshot")
	}
	if _, err := w.virt().DeleteDomainSnapshot(ctx, &hypervisorv1.DeleteDomainSnapshotRequest{Domain: id, Name: "live"}); err != nil {
		t.Error(err)
	}
	for what, call := range map[string]func() error{
		"pause": func() error {
			_, err := w.virt().PauseDomain(ctx, &hypervisorv1.PauseDomainRequest{Domain: id})
			return err
		},
		"detach": func() error {
			_, err := w.virt().DetachDomainInterface(ctx, &hypervisorv1.DetachDomainInterfaceRequest{Domain: id, MacAddress: "52:54:00:00:00:01"})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.virt().KillDomain(ctx, &hypervisorv1.KillDomainRequest{Domain: id}); err != nil {
		t.Fatal(err)
	}
	if got := w.info(ctx, vm).GetState(); got != hypervisorv1.State_STATE_STOPPED {
		t.Errorf("the VM is %v", got)
	}
}
