package parity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

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
