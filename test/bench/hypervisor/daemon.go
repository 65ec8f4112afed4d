package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// config gives the daemon room for very many VMs.
const config = `hypervisor: {driver: fake}
log_level: error
subnets:
  - {id: bench, bridge: bench0, gateway: 10.64.0.1/16, first: 10.64.0.2, last: 10.64.63.255}
`

// maxMessage is enough for a list of all VMs.
const maxMessage = 256 << 20

// daemon is hypervisord on the fake hypervisor.
type daemon struct {
	dir     string
	program *proc.Program
	address string
	cc      *grpc.ClientConn
	vms     hypervisorv1.VmServiceClient
	created int
}

func newDaemon(ctx context.Context, dir string) (*daemon, error) {
	d := &daemon{dir: dir}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return d, d.start(ctx)
}

// start starts the daemon and returns when it has answered.
func (d *daemon) start(ctx context.Context) error {
	var err error
	file := filepath.Join(d.dir, "address")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.program, err = proc.Start(nil, nil, "bin/hypervisord", "--config", filepath.Join(d.dir, "config.yaml"), "--state-dir", filepath.Join(d.dir, "state"),
		"--socket", filepath.Join(d.dir, "sock"), "--listen", "127.0.0.1:0", "--address-file", file)
	if err != nil {
		return err
	}
	if d.address, err = d.program.File(ctx, file); err != nil {
		return err
	}
	if d.cc, err = d.dial(); err != nil {
		return err
	}
	d.vms = hypervisorv1.NewVmServiceClient(d.cc)
	_, err = d.vms.ListVMs(ctx, &hypervisorv1.ListVMsRequest{PageSize: 1})
	return err
}

func (d *daemon) stop() error {
	return errors.Join(d.cc.Close(), d.program.Stop())
}

func (d *daemon) dial() (*grpc.ClientConn, error) {
	pki := filepath.Join(d.dir, "state/pki")
	raw, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.pem"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	return grpc.NewClient(d.address, grpc.WithTransportCredentials(credentials.NewTLS(cfg)), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
}

// create makes a VM that does not run and returns its UUID.
func (d *daemon) create(ctx context.Context) (string, error) {
	stream, err := d.vms.CreateVm(ctx)
	if err != nil {
		return "", err
	}
	spec := &hypervisorv1.CreateVmSpec{
		VmInfo:           &hypervisorv1.VmInfo{MemoryInMib: 64, MilliCpus: 250, Tags: map[string]string{"purpose": "bench"}},
		MinimumFreeBytes: 1 << 20, DoNotStart: true,
	}
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return "", err
		}
		if m.GetFinal() {
			return m.GetVmInfo().GetUuid(), nil
		}
	}
}

// fill creates VMs until there are n.
func (d *daemon) fill(ctx context.Context, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for range n - d.created {
		g.Go(func() error { _, err := d.create(ctx); return err })
	}
	d.created = max(n, d.created)
	return g.Wait()
}

// churn creates and destroys VMs one after the other for a while and returns how many a second.
func (d *daemon) churn(ctx context.Context) (float64, error) {
	const enough = 300
	begin := time.Now()
	for range enough {
		uuid, err := d.create(ctx)
		if err != nil {
			return 0, err
		}
		if _, err := d.vms.DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: uuid}); err != nil {
			return 0, err
		}
	}
	return enough / time.Since(begin).Seconds(), nil
}

// idle tells what the daemon does when nobody wants anything.
func (d *daemon) idle(ctx context.Context) error {
	const watched = 10 * time.Second
	before, err := d.cpu()
	if err != nil {
		return err
	}
	select {
	case <-time.After(watched):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := d.cpu()
	fmt.Printf("%-58s %.2f %% of a core (less than 1)\n", fmt.Sprintf("idle with %d VMs", d.created), 100*(after-before).Seconds()/watched.Seconds())
	return err
}

// cpu is the processor time that the daemon has used (proc_pid_stat(5), utime and stime, in clock ticks of 10 ms).
func (d *daemon) cpu() (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.program.PID()))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	var ticks int64
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// memory is the daemon's largest resident memory so far, in MiB (proc_pid_status(5), VmHWM).
func (d *daemon) memory() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.program.PID()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kib >> 10, err
}

// lists measures the calls that return all VMs.
func (d *daemon) lists(ctx context.Context) error {
	for _, c := range []struct {
		name, want string
		call       func() error
	}{
		{"ListVMs", "1 ms", func() error { _, err := d.vms.ListVMs(ctx, &hypervisorv1.ListVMsRequest{}); return err }},
		{"GetVmInfos", "25 ms", func() error { _, err := d.vms.GetVmInfos(ctx, &hypervisorv1.GetVmInfosRequest{}); return err }},
	} {
		const calls = 100
		before, err := d.cpu()
		if err != nil {
			return err
		}
		begin := time.Now()
		for range calls {
			if err := c.call(); err != nil {
				return err
			}
		}
		wall := time.Since(begin)
		after, err := d.cpu()
		if err != nil {
			return err
		}
		fmt.Printf("%-58s %.2f ms, %.2f ms CPU of the daemon (at most %s CPU)\n", fmt.Sprintf("%s of %d VMs", c.name, d.created),
			wall.Seconds()*1000/calls, (after-before).Seconds()*1000/calls, c.want)
	}
	return nil
}

// restart measures a start with all VMs.
func (d *daemon) restart(ctx context.Context) error {
	if err := d.stop(); err != nil {
		return err
	}
	begin := time.Now()
	if err := d.start(ctx); err != nil {
		return err
	}
	fmt.Printf("%-58s %.2f s (at most 2)\n", fmt.Sprintf("start with %d VMs until the first answer", d.created), time.Since(begin).Seconds())
	return nil
}
