// Package server is the control plane: it wires the services to their collaborators and serves them on every transport.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/fullstorydev/grpchan/inprocgrpc"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/gen/openapi"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/prewire"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/frontdoor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/intercept"
	"github.com/hyperplane-project/hyperplane/server/job"
	"github.com/hyperplane-project/hyperplane/server/pki"
	"github.com/hyperplane-project/hyperplane/server/rest"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
	"github.com/hyperplane-project/hyperplane/srpcshim"
	"github.com/hyperplane-project/hyperplane/srpcshim/dialogue"
)

// Deps are what the server does not make itself.
type Deps struct {
	Log       *slog.Logger
	Driver    hypervisor.Driver
	Providers job.Providers
	Formats   converters.Formats
	Version   string
	Now       func() time.Time
	// NewUUID makes the keys of VMs and jobs; nil = random ones.
	NewUUID func() string
}

// Server is a wired server. Run serves it, once.
type Server struct {
	cfg  config.Config
	deps Deps

	store    *bolt.Store
	pki      *pki.Authority
	services *services
	health   *health.Server
	grpc     *grpc.Server
	http     *http.Server
	srpc     *srpcshim.Mux
	door     *frontdoor.Door
	draining chan struct{} // closed when the server begins to end
}

// keepaliveTime is how long a connection may be silent before the client is asked whether it is still there.
const keepaliveTime = time.Minute

// migrations are the steps from one schema version of the state to the next.
func migrations() []store.Migration { return nil }

// New opens the state, makes the credentials that are missing and wires everything. The configuration must be valid.
func New(ctx context.Context, cfg config.Config, d Deps) (*Server, error) {
	if d.NewUUID == nil {
		d.NewUUID = uuid.NewString
	}
	s := &Server{cfg: cfg, deps: d, health: health.NewServer(), draining: make(chan struct{})}
	if err := s.openState(ctx); err != nil {
		return nil, err
	}
	if err := s.wire(ctx); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	return s, nil
}

func (s *Server) openState(ctx context.Context) error {
	dirs := append([]string{s.cfg.StateDir, s.cfg.ImageDir, s.cfg.ImageStoreDir, filepath.Join(s.cfg.VolumeDir, stageName)}, volumeDirectories(s.cfg)...)
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // the virtualiser may run as another user; secrets lie in closed files and folders
			return fault.Wrap(err, "state directory")
		}
	}
	// The lock on the state file comes first: a second daemon must not touch anything else.
	st, err := bolt.Open(filepath.Join(s.cfg.StateDir, "state.db"))
	if err != nil {
		return err
	}
	s.store = st
	s.pki, err = pki.Open(pki.Config{
		Dir: filepath.Join(s.cfg.StateDir, "pki"), Names: s.cfg.TLSNames, ClientCAs: s.cfg.ClientCAFile, IdentityCAs: s.cfg.IdentityCAFile,
		CertFile: s.cfg.CertFile, KeyFile: s.cfg.KeyFile, Now: s.deps.Now,
	})
	if err == nil {
		err = store.Migrate(ctx, st, migrations())
	}
	if err != nil {
		return errors.Join(err, st.Close())
	}
	return nil
}

// wire makes the services, the interceptors and the transports.
func (s *Server) wire(ctx context.Context) error {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := feed.New(s.deps.Now)
	var err error
	if s.services, err = newServices(ctx, s.cfg, s.deps, s.store, f, s.draining); err != nil {
		return err
	}
	s.services.collect(metrics)
	rules, err := intercept.NewRules(s.services.descriptors()...)
	if err != nil {
		return err
	}
	rules.Owners = s.services.host.Owners
	unary, stream := intercept.Chain(intercept.Deps{
		Log: s.deps.Log, Registry: metrics, Tokens: s.pki, VMs: s.services.authorizer(), Rules: rules, OpenReads: s.cfg.AllowUnauthenticatedReads, LegacyAccess: s.cfg.LegacyAccess,
	})
	s.grpc = grpc.NewServer(grpc.Creds(frontdoor.Credentials()), grpc.ChainUnaryInterceptor(prewire.Unary, unary), grpc.ChainStreamInterceptor(prewire.Stream, stream),
		grpc.MaxRecvMsgSize(maxMessage), grpc.WaitForHandlers(true), grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime}))
	channel := new(inprocgrpc.Channel).WithServerUnaryInterceptor(unary).WithServerStreamInterceptor(stream)
	s.services.register(s.grpc, s.health)
	s.services.register(channel, s.health)
	reflection.Register(s.grpc)
	if err := s.wireSRPC(unary, stream, rules); err != nil {
		return err
	}
	return s.wireDoor(ctx, channel, metrics, s.srpcLists(ctx, rules))
}

// wireSRPC makes the legacy protocol's transport.
func (s *Server) wireSRPC(unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor, rules *intercept.Rules) error {
	open := s.cfg.AllowUnauthenticatedReads
	s.srpc = srpcshim.NewMux(srpcshim.Options{
		Log: s.deps.Log, Methods: srpc.Methods(), Unary: unary, Streams: dialogue.Streams(s.srpcHooks()), Stream: stream, TLS: s.pki.ServerTLS(), Identify: s.pki.Identify, OpenReads: open,
		MayCall: func(ctx context.Context, fullMethod string) error { return rules.MayCall(ctx, fullMethod, open) },
	})
	s.services.register(s.srpc, s.health)
	return s.srpc.Check()
}

// maxMessage bounds one message; images come in many.
const maxMessage = 8 << 20

func (s *Server) wireDoor(ctx context.Context, channel grpc.ClientConnInterface, metrics *prometheus.Registry, lists map[string]func() []string) error {
	handler, err := rest.New(ctx, rest.Deps{
		Log: s.deps.Log, Channel: channel, Tokens: s.pki, Ready: s.ready, OpenAPI: openapi.JSON, OpenMetrics: s.cfg.OpenMetrics,
		Metrics: promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}), Lists: lists, OpenLists: s.cfg.AllowUnauthenticatedReads,
	})
	if err != nil {
		return err
	}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, ConnContext: connContext,
		ErrorLog: slog.NewLogLogger(s.deps.Log.Handler(), slog.LevelDebug),
	}
	s.door = &frontdoor.Door{
		Log: s.deps.Log, TLS: s.pki.ServerTLS(), Identify: s.pki.Identify, AllowPlain: s.cfg.AllowPlain,
		SRPC: s.srpc.ServeConn, MaxWaiting: s.cfg.MaxWaitingConnections,
	}
	return nil
}

// ready says why the server can not do its work yet.
func (s *Server) ready(ctx context.Context) error {
	if _, err := s.deps.Driver.Host(ctx); err != nil {
		return fault.Wrap(err, "virtualiser")
	}
	return nil
}
