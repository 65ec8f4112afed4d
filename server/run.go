package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/frontdoor"
	"github.com/hyperplane-project/hyperplane/server/rest"
)

const (
	headerTimeout = 15 * time.Second
	idleTimeout   = 5 * time.Minute
	// drainTime is how long calls that are under way may take when the server ends.
	drainTime = 20 * time.Second
)

// Listeners are where the server is reached.
type Listeners struct {
	// TCP listeners, and the Unix socket whose clients are administrators (nil = none).
	TCP    []net.Listener
	Socket net.Listener
}

// Listen opens the listeners of the configuration.
func (s *Server) Listen(ctx context.Context) (Listeners, error) {
	var l Listeners
	var lc net.ListenConfig
	for _, addr := range s.cfg.Listen {
		ln, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return l, errors.Join(fault.As(fault.Unavailable, err, "listen"), l.close())
		}
		l.TCP = append(l.TCP, ln)
	}
	if s.cfg.Socket == "" {
		return l, nil
	}
	ln, err := listenSocket(ctx, s.cfg.Socket)
	if err != nil {
		return l, errors.Join(err, l.close())
	}
	l.Socket = ln
	return l, nil
}

func (l Listeners) close() error {
	var errs []error
	for _, ln := range l.all() {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

func (l Listeners) all() []net.Listener {
	if l.Socket != nil {
		return append(slices.Clip(l.TCP), l.Socket)
	}
	return l.TCP
}

// listenSocket makes the admin socket, mode 0600. One that a daemon that was killed left behind is replaced: the state file's lock says that
// no other daemon of this state is alive.
func listenSocket(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the socket itself is closed
		return nil, fault.Wrap(err, "admin socket")
	}
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		return nil, errors.Join(fault.New(fault.FailedPrecondition, "admin socket %s: another daemon answers on it; choose another --socket", path), conn.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.Wrap(err, "admin socket")
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fault.As(fault.Unavailable, err, "admin socket")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fault.Wrap(err, "admin socket"), ln.Close())
	}
	return ln, nil
}

// Run serves until ctx ends, then lets calls that are under way finish, stops the jobs so that a later daemon takes them up, and closes the
// state. VMs live on.
func (s *Server) Run(ctx context.Context, l Listeners) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var background sync.WaitGroup
	s.services.background(work, s.deps.Log, func(name string, f func(context.Context) error) {
		background.Go(func() {
			if err := f(work); err != nil && work.Err() == nil {
				s.deps.Log.LogAttrs(work, slog.LevelError, "background work ended", slog.String("work", name), slog.Any("error", err))
			}
		})
	})
	err := s.serve(ctx, l)
	s.services.close()
	stop()
	background.Wait()
	return errors.Join(err, s.store.Close())
}

func (s *Server) serve(ctx context.Context, l Listeners) error {
	addr := l.all()[0].Addr()
	s.door.GRPC, s.door.HTTP = frontdoor.NewHandoff(addr), frontdoor.NewHandoff(addr)
	g, gctx := errgroup.WithContext(ctx)
	for _, ln := range l.TCP {
		s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("address", ln.Addr().String()))
		g.Go(func() error { return s.door.Serve(gctx, ln, false) })
	}
	if l.Socket != nil {
		s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("socket", l.Socket.Addr().String()))
		g.Go(func() error { return s.door.Serve(gctx, l.Socket, true) })
	}
	g.Go(func() error { return ended(s.grpc.Serve(s.door.GRPC)) })
	g.Go(func() error { return ended(s.http.Serve(s.door.HTTP)) })
	g.Go(func() error {
		<-gctx.Done()
		s.drain(context.WithoutCancel(ctx))
		return nil
	})
	return g.Wait()
}

func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// drain ends the transports: calls may finish for a while, then they are cut.
func (s *Server) drain(ctx context.Context) {
	s.deps.Log.LogAttrs(ctx, slog.LevelInfo, "draining")
	close(s.draining)
	s.health.Shutdown()
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		stop := context.AfterFunc(ctx, s.grpc.Stop)
		defer stop()
		s.grpc.GracefulStop()
	})
	wg.Go(func() {
		if err := s.http.Shutdown(ctx); err != nil {
			s.deps.Log.LogAttrs(ctx, slog.LevelWarn, "HTTP requests were cut off", slog.Any("error", errors.Join(err, s.http.Close())))
		}
	})
	wg.Wait()
}

func connContext(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := frontdoor.ConnOf(conn); ok {
		return rest.ConnContext(ctx, c)
	}
	return ctx
}
