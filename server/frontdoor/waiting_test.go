package frontdoor_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/server/frontdoor"
)

// patience is how long a test waits for what should come at once.
const patience = 20 * time.Second

// lame is a listener that has no room for the first connections.
type lame struct {
	net.Listener
	fails []error
}

func (l *lame) Accept() (net.Conn, error) {
	if len(l.fails) > 0 {
		err := l.fails[0]
		l.fails = l.fails[1:]
		return nil, &net.OpError{Op: "accept", Err: err}
	}
	return l.Listener.Accept()
}

// serve serves a door that takes CONNECT for the start of an echo.
func serve(t *testing.T, room int, fails ...error) (address string, cancel func(), ended func() error) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &frontdoor.Door{
		Log: slog.New(slog.DiscardHandler), MaxWaiting: room, GRPC: frontdoor.NewHandoff(ln.Addr()), HTTP: frontdoor.NewHandoff(ln.Addr()),
		SRPC: func(ctx context.Context, conn net.Conn) {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			in := bufio.NewReader(conn)
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if a, ok := conn.(interface{ Admitted() }); ok {
				a.Admitted()
			}
			_, _ = io.WriteString(conn, line) // it is for the client to see
			_, _ = io.Copy(conn, in)
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var result error
	done.Go(func() { result = d.Serve(ctx, &lame{ln, fails}, false) })
	t.Cleanup(cancel)
	return ln.Addr().String(), cancel, func() error {
		done.Wait()
		return result
	}
}

func dial(t *testing.T, address, text string) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

func hears(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// TestOldestMakesRoom lets more clients come than may wait. Those who have said who they are do not count.
func TestOldestMakesRoom(t *testing.T) {
	t.Parallel()
	address, _, _ := serve(t, 3)
	admitted := dial(t, address, "CONNECT a\n")
	hears(t, admitted, "CONNECT a\n")
	var waiting []net.Conn
	for i := range 10 {
		waiting = append(waiting, dial(t, address, []string{"C", "CONNECT b"}[i%2]))
		if i >= 3 {
			hears(t, waiting[i-3], "HTTP/1.0 503 Service Unavailable\r\n")
			if rest, _ := io.ReadAll(waiting[i-3]); !strings.Contains(string(rest), "Try again") {
				t.Errorf("not clear: %q", rest)
			}
		}
	}
	good := dial(t, address, "CONNECT c\n") // the eighth makes room for it
	hears(t, good, "CONNECT c\n")
	for i, conn := range []net.Conn{waiting[8], waiting[9], admitted, good} {
		want := []string{"ONNECT d\n", "\n", "x\n", "x\n"}[i]
		if _, err := io.WriteString(conn, want); err != nil {
			t.Fatal(err)
		}
		hears(t, conn, []string{"CONNECT d\n", "CONNECT b\n", "x\n", "x\n"}[i])
	}
}

// TestNoFilesLeft: a server that has as many open files as it may goes on when there are fewer.
func TestNoFilesLeft(t *testing.T) {
	t.Parallel()
	address, cancel, ended := serve(t, 0, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS)
	hears(t, dial(t, address, "CONNECT a\n"), "CONNECT a\n")
	cancel()
	if err := ended(); err != nil {
		t.Error(err)
	}
	_, _, ended = serve(t, 0, syscall.EBADF)
	if err := ended(); err == nil {
		t.Error("a listener that is broken is no error")
	}
}
