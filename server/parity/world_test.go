package parity_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/converters/raw"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// world is a server with what the cases need. Cases prepare it over gRPC, whatever transport they test.
type world struct {
	*servertest.Server
	t  *testing.T
	cc *grpc.ClientConn
	// uuids holds the UUID of the VM of a request: an address may belong to another VM once the first one has gone.
	uuids *sync.Map
}

func newWorld(t *testing.T, changes ...func(*config.Config)) *world {
	t.Helper()
	sim, err := vcentersim.New(t.Context(), vcentersim.Config{
		VMs: []vcentersim.VM{{Name: "source-1", Disks: []vcentersim.Disk{{Content: raw.New(strings.NewReader(strings.Repeat("disk", 1<<20)), 4<<20)}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sim.Close(context.WithoutCancel(t.Context())) })
	if err := sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultSlow, VM: "source-1", BytesPerSecond: 1 << 10, Reads: -1}); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, sim.Certificate(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, func(c *config.Config) {
		c.JobConcurrency = 8
		c.VCenterURL, c.Username, c.Password, c.CAFile = sim.URL(), "user", "pass", ca
		c.IdentityProvider, c.Hypervisor.LogDir = "https://identity.example.com", t.TempDir()
		c.PowerOffCommand = []string{"touch", filepath.Join(t.TempDir(), "powered-off")}
		for _, change := range changes {
			change(c)
		}
	})
	return &world{Server: s, t: t, cc: s.Dial(true), uuids: new(sync.Map)}
}

// in returns the world for a subtest, which its failures then end.
func (w *world) in(t *testing.T) *world {
	t.Helper()
	sub := *w
	sub.t = t
	return &sub
}

// endless submits a job that goes on until it is cancelled, and returns its id.
func (w *world) endless(ctx context.Context) string {
	w.t.Helper()
	e := &exportv1.ExportSpec{Vm: "source-1", Destination: &exportv1.ExportSpec_Directory{Directory: &exportv1.DirectoryDestination{Path: w.t.TempDir()}}}
	res, err := w.jobs().SubmitJob(ctx, &exportv1.SubmitJobRequest{Spec: &exportv1.JobSpec{Work: &exportv1.JobSpec_Export{Export: e}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetJob().GetId()
}

func (w *world) vms() hypervisorv1.VmServiceClient { return hypervisorv1.NewVmServiceClient(w.cc) }

func (w *world) jobs() exportv1.JobServiceClient { return exportv1.NewJobServiceClient(w.cc) }

// spec is a VM of an empty volume.
func spec(start bool) *hypervisorv1.CreateVmSpec {
	return &hypervisorv1.CreateVmSpec{
		VmInfo: &hypervisorv1.VmInfo{
			MemoryInMib: 64, MilliCpus: 250, Tags: map[string]string{"test": "parity"}, ConsoleType: hypervisorv1.ConsoleType_CONSOLE_TYPE_VNC,
		},
		MinimumFreeBytes: 1 << 20, DoNotStart: !start,
	}
}

// vm makes a VM and returns its IP address, which names it on every transport.
func (w *world) vm(ctx context.Context, running bool) string {
	w.t.Helper()
	stream, err := w.vms().CreateVm(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec(running)}}); err != nil {
		w.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			w.t.Fatal(err)
		}
		if m.GetFinal() {
			return m.GetIpAddress()
		}
	}
}

func (w *world) info(ctx context.Context, vm string) *hypervisorv1.VmInfo {
	w.t.Helper()
	res, err := w.vms().GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: vm})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetVmInfo()
}

// settled waits until a VM is in a state.
func (w *world) settled(ctx context.Context, vm string, want hypervisorv1.State) {
	w.t.Helper()
	stream, err := hypervisorv1.NewMonitoringServiceClient(w.cc).GetUpdates(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.GetUpdatesRequest{}); err != nil {
		w.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, v := range m.GetUpdate().GetVms() {
			if v.GetAddress().GetIpAddress() == vm && v.GetState() == want {
				return
			}
		}
	}
}

// image makes a small raw image and returns its path and a path for a result.
func (w *world) image() (source, target string) {
	w.t.Helper()
	dir := w.t.TempDir()
	source = filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(source, make([]byte, 1<<20), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return source, filepath.Join(dir, "disk.qcow2")
}

func (w *world) convertSpec() *exportv1.ConvertSpec {
	source, target := w.image()
	return &exportv1.ConvertSpec{SourcePath: source, TargetPath: target}
}

// job runs a small job to its end and returns its id.
func (w *world) job(ctx context.Context) string {
	w.t.Helper()
	res, err := w.jobs().SubmitJob(ctx, &exportv1.SubmitJobRequest{
		Spec: &exportv1.JobSpec{Work: &exportv1.JobSpec_Convert{Convert: w.convertSpec()}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.finished(ctx, res.GetJob().GetId())
	return res.GetJob().GetId()
}

// finished waits for a job's end and returns it.
func (w *world) finished(ctx context.Context, id string) *exportv1.Job {
	w.t.Helper()
	stream, err := w.jobs().WatchJob(ctx, &exportv1.WatchJobRequest{Id: id})
	if err != nil {
		w.t.Fatal(err)
	}
	var last *exportv1.Job
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			w.t.Fatal(err)
		}
		last = m.GetJob()
	}
}

// as turns a reply of any transport into its type.
func as[M proto.Message](t *testing.T, res proto.Message, into M) M {
	t.Helper()
	raw, err := proto.Marshal(res)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
	return into
}

const patience = 30 * time.Second
