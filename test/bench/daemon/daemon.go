// Package daemon starts hypervisord for benchmarks, fills it with VMs and says what it costs.
package daemon

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

// Fake is the configuration for the fake hypervisor, with room for very many VMs.
const Fake = `hypervisor: {driver: fake}
log_level: error
subnets:
  - {id: bench, bridge: bench0, gateway: 10.64.0.1/16, first: 10.64.0.2, last: 10.64.63.255}
`

// maxMessage is enough for a list of all VMs.
const maxMessage = 256 << 20

// Daemon is a hypervisord.
type Daemon struct {
	// Dir is its directory.
	Dir     string
	program *proc.Program
	// Address is where it listens, Conn a connection to it as administrator.
	Address string
	Conn    *grpc.ClientConn
	VMs     hypervisorv1.VmServiceClient
	// Created is how many VMs Fill has made.
	Created int
}

// New starts one in a directory, where its configuration is written.
func New(ctx context.Context, dir, config string) (*Daemon, error) {
	d := &Daemon{Dir: dir}
	if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return d, d.Start(ctx)
}

// Start starts the daemon and returns when it has answered.
func (d *Daemon) Start(ctx context.Context) error {
	var err error
	file := filepath.Join(d.Dir, "address")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	d.program, err = proc.Start(nil, nil, "bin/hypervisord", "--config", filepath.Join(d.Dir, "config.yaml"), "--state-dir", filepath.Join(d.Dir, "state"),
		"--socket", filepath.Join(d.Dir, "sock"), "--listen", "127.0.0.1:0", "--address-file", file)
	if err != nil {
		return err
	}
	if d.Address, err = d.program.File(ctx, file); err != nil {
		return err
	}
	if d.Conn, err = d.Dial(); err != nil {
		return err
	}
	d.VMs = hypervisorv1.NewVmServiceClient(d.Conn)
	_, err = d.VMs.ListVMs(ctx, &hypervisorv1.ListVMsRequest{PageSize: 1})
	return err
}

// Stop ends it.
func (d *Daemon) Stop() error {
	return errors.Join(d.Conn.Close(), d.program.Stop())
}

// Dial opens another connection as administrator.
func (d *Daemon) Dial() (*grpc.ClientConn, error) {
	cfg, err := d.TLS()
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(d.Address, grpc.WithTransportCredentials(credentials.NewTLS(cfg)), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
}

// TLS is how the administrator connects.
func (d *Daemon) TLS() (*tls.Config, error) {
	pki := filepath.Join(d.Dir, "state/pki")
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
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// Create makes a VM that does not run and returns its UUID.
func (d *Daemon) Create(ctx context.Context) (string, error) {
	stream, err := d.VMs.CreateVm(ctx)
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

// Fill creates VMs until there are n.
func (d *Daemon) Fill(ctx context.Context, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for range n - d.Created {
		g.Go(func() error { _, err := d.Create(ctx); return err })
	}
	d.Created = max(n, d.Created)
	return g.Wait()
}

// CPU is the processor time that the daemon has used (proc_pid_stat(5), utime and stime, in clock ticks of 10 ms).
func (d *Daemon) CPU() (time.Duration, error) {
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

// Memory is the daemon's largest resident memory so far, in MiB (proc_pid_status(5), VmHWM).
func (d *Daemon) Memory() (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.program.PID()))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(raw), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	return kib >> 10, err
}
