// Command api measures unary calls: GetVmInfo of hypervisord over gRPC with TLS against a bare grpc-go server that returns the same message,
// and the same call over REST. Servers are processes of their own; the loads take turns in one run.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

const (
	rounds     = 5
	roundTime  = 2 * time.Second
	inFlight   = 16
	peerAction = "serve-bare"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if len(os.Args) > 1 && os.Args[1] == peerAction {
		err = serveBare(ctx, os.Args[2])
	} else {
		err = run(ctx)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-api:", err)
		os.Exit(1)
	}
}

// bare is the peer: the least that a grpc-go server does.
type bare struct {
	hypervisorv1.UnimplementedVmServiceServer
	res *hypervisorv1.GetVmInfoResponse
}

func (b bare) GetVmInfo(context.Context, *hypervisorv1.GetVmInfoRequest) (*hypervisorv1.GetVmInfoResponse, error) {
	return b.res, nil
}

// serveBare serves the message in dir with the daemon's own certificate.
func serveBare(ctx context.Context, dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, "message"))
	if err != nil {
		return err
	}
	res := new(hypervisorv1.GetVmInfoResponse)
	if err := proto.Unmarshal(raw, res); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "state/pki/server.pem"), filepath.Join(dir, "state/pki/server.key"))
	if err != nil {
		return err
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})))
	hypervisorv1.RegisterVmServiceServer(s, bare{res: res})
	if err := os.WriteFile(filepath.Join(dir, "bare-address"), []byte(ln.Addr().String()), 0o600); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.GracefulStop)
	defer stop()
	return s.Serve(ln)
}

// subject is a server under load.
type subject struct {
	name  string
	pid   int
	call  func(ctx context.Context) error
	rates []float64
	cpu   []float64 // microseconds of the server's CPU time per call
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "hp-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	daemon, err := proc.Start(nil, nil, "bin/hypervisord", "--hypervisor", "fake", "--state-dir", filepath.Join(dir, "state"), "--socket",
		filepath.Join(dir, "sock"), "--listen", "127.0.0.1:0", "--address-file", filepath.Join(dir, "address"), "--log-level", "warn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, daemon.Stop()) }()
	address, err := daemon.File(ctx, filepath.Join(dir, "address"))
	if err != nil {
		return err
	}
	if _, err := proc.Run(ctx, nil, "bin/hyperctl", "--server", "unix://"+filepath.Join(dir, "sock"), "vm", "create", "bench", "--memory", "64M",
		"--size", "1M", "--tag", "purpose=bench"); err != nil {
		return err
	}
	cfg, token, err := clientTLS(dir)
	if err != nil {
		return err
	}
	ours, err := grpcCall(ctx, address, cfg, dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	peer, err := proc.Start(nil, nil, self, peerAction, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.Stop()) }()
	bareAddress, err := peer.File(ctx, filepath.Join(dir, "bare-address"))
	if err != nil {
		return err
	}
	theirs, err := grpcCall(ctx, bareAddress, cfg, "")
	if err != nil {
		return err
	}
	subjects := []*subject{
		{name: "bare grpc-go, TLS", pid: peer.PID(), call: theirs},
		{name: "hypervisord gRPC, TLS", pid: daemon.PID(), call: ours},
		{name: "hypervisord REST, TLS", pid: daemon.PID(), call: restCall(address, cfg, token)},
	}
	for range rounds {
		for _, s := range subjects {
			if err := s.round(ctx); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	report(subjects)
	return nil
}

func clientTLS(dir string) (*tls.Config, string, error) {
	pki := filepath.Join(dir, "state/pki")
	raw, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
	if err != nil {
		return nil, "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	pair, err := tls.LoadX509KeyPair(filepath.Join(pki, "admin.pem"), filepath.Join(pki, "admin.key"))
	if err != nil {
		return nil, "", err
	}
	token, err := os.ReadFile(filepath.Join(pki, "admin.token"))
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, strings.TrimSpace(string(token)), err
}

// grpcCall returns a call over one connection. With a dir it also writes the answer there, for the peer.
func grpcCall(ctx context.Context, address string, cfg *tls.Config, dir string) (func(context.Context) error, error) {
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(cfg)))
	if err != nil {
		return nil, err
	}
	vms := hypervisorv1.NewVmServiceClient(cc)
	req := &hypervisorv1.GetVmInfoRequest{Vm: "bench"}
	if dir != "" {
		res, err := vms.GetVmInfo(ctx, req)
		if err != nil {
			return nil, err
		}
		raw, err := proto.Marshal(res)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(dir, "message"), raw, 0o600); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error { _, err := vms.GetVmInfo(ctx, req); return err }, nil
}

func restCall(address string, cfg *tls.Config, token string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: inFlight}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/v1/vms/bench", http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", res.Status, body)
		}
		return err
	}
}

// round loads the server for a while.
func (s *subject) round(ctx context.Context) error {
	deadline := time.Now().Add(roundTime)
	var calls atomic.Int64
	var failed atomic.Pointer[error]
	before, start := cpuTime(s.pid), time.Now()
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for time.Now().Before(deadline) {
				if err := s.call(ctx); err != nil {
					failed.Store(&err)
					return
				}
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	n := float64(calls.Load())
	s.rates = append(s.rates, n/time.Since(start).Seconds())
	s.cpu = append(s.cpu, (cpuTime(s.pid)-before)*1e6/n)
	return nil
}

// cpuTime returns the seconds of processor time that a process has used, from proc(5).
func cpuTime(pid int) float64 {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	const ticks = 100 // USER_HZ, the same on every Linux of amd64 and arm64
	return (user + system) / ticks
}

func peak(pid int) string {
	raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	for line := range strings.Lines(string(raw)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func report(subjects []*subject) {
	fmt.Printf("GetVmInfo, %d in flight, median of %d rounds of %s in turn\n", inFlight, rounds, roundTime)
	fmt.Printf("%-24s %12s %16s %12s\n", "", "calls/s", "server CPU/call", "peak RSS")
	for _, s := range subjects {
		fmt.Printf("%-24s %12.0f %13.1f us %12s\n", s.name, median(s.rates), median(s.cpu), peak(s.pid))
	}
	fmt.Printf("hypervisord gRPC is %.2f of bare grpc-go; REST is %.2f of hypervisord gRPC\n",
		median(subjects[1].rates)/median(subjects[0].rates), median(subjects[2].rates)/median(subjects[1].rates))
}
