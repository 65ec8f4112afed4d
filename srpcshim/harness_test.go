package srpcshim_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/intercept"
	"github.com/hyperplane-project/hyperplane/srpcshim"
	"github.com/hyperplane-project/hyperplane/srpcshim/dialogue"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// services answers the few methods that the tests call.
type services struct {
	hypervisorv1.UnimplementedVmServiceServer
	hypervisorv1.UnimplementedHostServiceServer
	hypervisorv1.UnimplementedVmTransferServiceServer
	hypervisorv1.UnimplementedVmConfigurationServiceServer
	hypervisorv1.UnimplementedNetworkServiceServer
	hypervisorv1.UnimplementedVolumeServiceServer
	hypervisorv1.UnimplementedMonitoringServiceServer
	hypervisorv1.UnimplementedConsoleServiceServer
	hypervisorv1.UnimplementedUserDataServiceServer
	vmInfo    func(context.Context, *hypervisorv1.GetVmInfoRequest) (*hypervisorv1.GetVmInfoResponse, error)
	list      func(context.Context, *hypervisorv1.ListVMsRequest) (*hypervisorv1.ListVMsResponse, error)
	stop      func(context.Context, *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error)
	updates   func(updatesStream) error
	importing func(context.Context, *hypervisorv1.ImportLocalVmRequest) (*hypervisorv1.ImportLocalVmResponse, error)
}

type updatesStream = grpc.BidiStreamingServer[hypervisorv1.GetUpdatesRequest, hypervisorv1.GetUpdatesResponse]

func (s *services) GetUpdates(stream updatesStream) error { return s.updates(stream) }

func (s *services) GetVmInfo(ctx context.Context, r *hypervisorv1.GetVmInfoRequest) (*hypervisorv1.GetVmInfoResponse, error) {
	return s.vmInfo(ctx, r)
}

func (s *services) ListVMs(ctx context.Context, r *hypervisorv1.ListVMsRequest) (*hypervisorv1.ListVMsResponse, error) {
	return s.list(ctx, r)
}

func (s *services) StopVm(ctx context.Context, r *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error) {
	return s.stop(ctx, r)
}

func (s *services) ImportLocalVm(ctx context.Context, r *hypervisorv1.ImportLocalVmRequest) (*hypervisorv1.ImportLocalVmResponse, error) {
	return s.importing(ctx, r)
}

func (s *services) GetCapacity(context.Context, *hypervisorv1.GetCapacityRequest) (*hypervisorv1.GetCapacityResponse, error) {
	return &hypervisorv1.GetCapacityResponse{MemoryInMib: 7, NumCpus: 3}, nil
}

// server is a Mux on a listener.
type server struct {
	tb      testing.TB
	ca      *srpctest.Authority
	network string
	address string
	// end tells the server to end and waits until all connections have.
	end func()
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// unary maps errors as the server's chain does.
func unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	res, err := handler(ctx, req)
	return res, intercept.Status(err)
}

// stream does so for stream methods.
func stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return intercept.Status(handler(srv, ss))
}

func serve(tb testing.TB, s *services, change func(*srpcshim.Options)) *server {
	tb.Helper()
	return serveOn(tb, "127.0.0.1", s, change)
}

// serveOn serves on an address of this host.
func serveOn(tb testing.TB, host string, s *services, change func(*srpcshim.Options)) *server {
	tb.Helper()
	ca := srpctest.NewAuthority(tb, "methods CA")
	var schema []protoreflect.ServiceDescriptor
	for _, f := range []protoreflect.FileDescriptor{
		hypervisorv1.File_hyperplane_hypervisor_v1_vm_service_proto, hypervisorv1.File_hyperplane_hypervisor_v1_vm_transfer_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_host_service_proto, hypervisorv1.File_hyperplane_hypervisor_v1_vm_configuration_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_network_service_proto, hypervisorv1.File_hyperplane_hypervisor_v1_volume_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_monitoring_service_proto, hypervisorv1.File_hyperplane_hypervisor_v1_console_service_proto,
		hypervisorv1.File_hyperplane_hypervisor_v1_user_data_service_proto,
	} {
		schema = append(schema, f.Services().Get(0))
	}
	rules, err := intercept.NewRules(schema...)
	if err != nil {
		tb.Fatal(err)
	}
	o := srpcshim.Options{
		Log: discard(), Methods: srpc.Methods(), Unary: unary, Streams: dialogue.Streams(dialogue.Hooks{}), Stream: stream,
		TLS: &tls.Config{Certificates: []tls.Certificate{ca.Server()}, ClientCAs: ca.Pool, MinVersion: tls.VersionTLS12},
		Identify: func(state *tls.ConnectionState) (principal.Principal, error) {
			if len(state.VerifiedChains) == 0 {
				return principal.Principal{}, nil
			}
			return principal.FromCertificate(state.VerifiedChains[0][0], func([]byte) bool { return true })
		},
	}
	if change != nil {
		change(&o)
	}
	o.MayCall = func(ctx context.Context, full string) error { return rules.MayCall(ctx, full, o.OpenReads) }
	mux := srpcshim.NewMux(o)
	hypervisorv1.RegisterVmServiceServer(mux, s)
	hypervisorv1.RegisterHostServiceServer(mux, s)
	hypervisorv1.RegisterVmTransferServiceServer(mux, s)
	hypervisorv1.RegisterVmConfigurationServiceServer(mux, s)
	hypervisorv1.RegisterNetworkServiceServer(mux, s)
	hypervisorv1.RegisterVolumeServiceServer(mux, s)
	hypervisorv1.RegisterMonitoringServiceServer(mux, s)
	hypervisorv1.RegisterConsoleServiceServer(mux, s)
	hypervisorv1.RegisterUserDataServiceServer(mux, s)
	if err := mux.Check(); err != nil {
		tb.Fatal(err)
	}
	return listen(tb, host, mux, ca)
}

func listen(tb testing.TB, host string, mux *srpcshim.Mux, ca *srpctest.Authority) *server {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(principal.With(context.Background(), principal.Principal{Local: true})) //nolint:forbidigo // ends after t.Context
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { mux.ServeConn(ctx, conn) })
		}
	})
	s := &server{tb: tb, ca: ca, network: "tcp", address: ln.Addr().String()}
	s.end = func() {
		_ = ln.Close() // twice is harmless
		cancel()
		wg.Wait()
	}
	tb.Cleanup(s.end)
	return s
}

// dial connects as a user with method powers.
func (s *server) dial(path, user string, powers ...string) *srpctest.Client {
	s.tb.Helper()
	c, err := s.try(path, srpctest.Shows(s.ca.Client(user, []string{"team-a"}, powers)))
	if err != nil {
		s.tb.Fatal(err)
	}
	return c
}

func (s *server) try(path string, config *tls.Config) (*srpctest.Client, error) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(s.tb.Context(), patience)
	s.tb.Cleanup(cancel)
	return srpctest.Dial(ctx, s.tb, s.network, s.address, path, config)
}

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second
