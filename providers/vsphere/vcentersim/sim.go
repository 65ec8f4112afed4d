package vcentersim

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Simulator is a running vCenter. All methods may be called from several goroutines at once.
type Simulator struct {
	cfg     Config
	log     *slog.Logger
	model   *simulator.Model
	server  *simulator.Server
	tls     tls.Certificate
	certPEM []byte
	admin   *govmomi.Client // the session with which the simulator changes its own inventory
	streams *streams
	tempDir string // of the streams; removed at the end

	ctx     context.Context //nolint:containedctx // the simulator's life: its goroutines and encoders end with it
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	machines  map[types.ManagedObjectReference]*machine
	snapshots map[types.ManagedObjectReference]*snapshot
	leases    map[string]*lease // by the secret in their URLs
	faults    []*Fault
	failures  map[string]*failure          // of calls, by method
	sessions  map[*simulator.Registry]bool // registries of sessions that hold wrappers
	history   history
}

// machine is a VM with its disks, in the order of the configuration.
type machine struct {
	ref   types.ManagedObjectReference
	name  string
	disks []*disk
}

// disk is a disk with its content.
type disk struct {
	machine *machine
	index   int
	key     int32
	slot    string // as the key of a lease's URL ends: VirtualLsiLogicController0:0
	file    string // "[datastore] folder/name.vmdk"
	content *content
}

// snapshot remembers which generations it holds.
type snapshot struct {
	machine     *machine
	generations map[*disk]int
}

func encodeVMDK(ctx context.Context, w io.Writer, disk image.Reader) error {
	return vmdk.WriteStream(ctx, w, disk, vmdk.StreamOptions{})
}

// New starts a simulator. It serves until Close; ctx bounds only the start. It takes over the content of the disks, also if it fails.
func New(ctx context.Context, cfg Config) (*Simulator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, errors.Join(err, cfg.closeContents())
	}
	s := &Simulator{
		cfg: cfg, log: cfg.Log,
		machines:  make(map[types.ManagedObjectReference]*machine),
		snapshots: make(map[types.ManagedObjectReference]*snapshot),
		leases:    make(map[string]*lease),
		failures:  make(map[string]*failure),
		sessions:  make(map[*simulator.Registry]bool),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

func (s *Simulator) start(ctx context.Context) error {
	dir, err := os.MkdirTemp(s.cfg.Dir, "vcentersim-")
	if err != nil {
		return err
	}
	s.tempDir = dir
	s.streams = &streams{dir: dir, encode: s.cfg.Encode, made: make(map[streamKey]*making)}
	if err := s.serve(); err != nil {
		return err
	}
	return s.populate(ctx)
}

// serve starts the HTTPS server with an inventory of one datacenter and no VMs.
func (s *Simulator) serve() error {
	host, _, err := net.SplitHostPort(s.cfg.Listen)
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "vcentersim: listen address")
	}
	if err := s.checkListen(); err != nil {
		return err
	}
	if s.tls, s.certPEM, err = newCertificate(host); err != nil {
		return err
	}
	s.model = simulator.VPX()
	s.model.Machine, s.model.Cluster, s.model.ClusterHost = 0, 0, 0
	if err := create(s.model); err != nil {
		return err
	}
	svc := s.model.Service
	svc.Listen = &url.URL{Host: s.cfg.Listen, User: url.UserPassword(s.cfg.Username, s.cfg.Password)}
	svc.TLS = &tls.Config{Certificates: []tls.Certificate{s.tls}, MinVersion: tls.VersionTLS12}
	svc.ServeMux = http.NewServeMux()
	svc.ServeMux.HandleFunc("GET /nfc/", s.serveLease)
	svc.ServeMux.HandleFunc("GET /folder/", s.serveFolder)
	s.model.Map().Handler = s.beforeCall
	s.model.Map().AddHandler(&watcher{sim: s})
	serving.Lock()
	s.server = svc.NewServer()
	serving.Unlock()
	s.log.Info("vcentersim serves", slog.String("url", s.URL()))
	return nil
}

// creating keeps models from being made at the same time: govmomi's simulator writes to variables of its packages while it makes one.
var creating sync.Mutex

func create(m *simulator.Model) error {
	creating.Lock()
	defer creating.Unlock()
	return m.Create()
}

// checkListen finds out whether the address is free, because the simulator's own listener panics where it is not.
func (s *Simulator) checkListen() error {
	probe, err := new(net.ListenConfig).Listen(s.ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fault.As(fault.Unavailable, err, "vcentersim: listen")
	}
	return probe.Close()
}

// URL is the address of the API, without user name and password.
func (s *Simulator) URL() string {
	u := *s.server.URL
	u.User = nil
	return u.String()
}

// Certificate is the server's certificate as PEM. It serves as the CA file of clients.
func (s *Simulator) Certificate() []byte { return s.certPEM }

// Prepare encodes the present content of all disks, which the first lease of each would otherwise wait for.
func (s *Simulator) Prepare(ctx context.Context) error {
	for _, m := range s.allMachines() {
		for _, d := range m.disks {
			if _, err := s.streams.get(ctx, d, d.content.freeze()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close stops serving, ends what is running and removes temporary files. Requests that do not end by themselves are left to the process.
func (s *Simulator) Close(ctx context.Context) error {
	s.cancel()
	if s.admin != nil {
		_ = s.admin.Logout(context.WithoutCancel(ctx))
	}
	if s.server != nil {
		s.closeServer()
	}
	s.running.Wait()
	if s.model != nil {
		s.model.Remove()
	}
	err := s.cfg.closeContents()
	if s.tempDir != "" {
		err = errors.Join(err, os.RemoveAll(s.tempDir))
	}
	return err
}

// closeServer gives the requests that wait for updates on behalf of clients that are gone a moment, and then lets them be.
func (s *Simulator) closeServer() {
	closed := make(chan struct{})
	go func() { s.server.Close(); close(closed) }()
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	select {
	case <-closed:
	case <-patience.C:
	}
}

func (s *Simulator) allMachines() []*machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*machine, 0, len(s.machines))
	for _, m := range s.machines {
		out = append(out, m)
	}
	return out
}

// machineNamed returns a VM by name.
func (s *Simulator) machineNamed(name string) (*machine, error) {
	for _, m := range s.allMachines() {
		if m.name == name {
			return m, nil
		}
	}
	return nil, fault.New(fault.NotFound, "vcentersim: there is no vm %q", name)
}

func (s *Simulator) diskOf(vm string, index int) (*disk, error) {
	m, err := s.machineNamed(vm)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= len(m.disks) {
		return nil, fault.New(fault.NotFound, "vcentersim: vm %q has no disk %d", vm, index)
	}
	return m.disks[index], nil
}

// WriteDisk writes to a disk (counted from 0 in the order of Config) as the guest would. What a snapshot or a lease has frozen does not change.
func (s *Simulator) WriteDisk(vm string, index int, p []byte, off int64) error {
	d, err := s.diskOf(vm, index)
	if err != nil {
		return err
	}
	return d.content.writeAt(p, off)
}

// serving guards a variable of govmomi's simulator that its NewServer changes.
var serving sync.Mutex // what it guards is global too
