package srpcshim_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// open connects without saying anything.
func (s *server) open() net.Conn {
	s.tb.Helper()
	conn, err := new(net.Dialer).DialContext(s.tb.Context(), "tcp", s.address)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		s.tb.Fatal(err)
	}
	return conn
}

// trickle sends byte by byte, each when nothing has been heard for a while, until the server ends the connection.
func trickle(t *testing.T, conn net.Conn, data func(i int) byte) {
	t.Helper()
	heard := make([]byte, 1000)
	for i, end := 0, time.Now().Add(patience); time.Now().Before(end); i++ {
		if _, err := conn.Write([]byte{data(i)}); err != nil {
			return
		}
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(heard); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
	t.Error("the server has all the time of the world")
}

func hasty(o *srpcshim.Options) {
	short := 500 * time.Millisecond
	o.Limits = srpcshim.Limits{Greeting: short, Handshake: short, Request: short, Reply: short}
	o.OpenReads = true
}

// TestTrickle: the time for a step is for all of it, not for a byte.
func TestTrickle(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), hasty)
	for name, c := range map[string]struct {
		begin string
		data  func(i int) byte
	}{
		"CONNECT":      {"CONN", func(int) byte { return 'x' }},
		"header":       {"CONNECT /_go_TLS_SRPC_/ HTTP/1.0\n", func(i int) byte { return "a: b\n"[i%5] }},
		"handshake":    {"CONNECT /_go_TLS_SRPC_/ HTTP/1.0\n\n\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", func(int) byte { return 7 }},
		"method line":  {"CONNECT /_goSRPC_/ HTTP/1.0\n\n", func(int) byte { return 'x' }},
		"gob request":  {"CONNECT /_goSRPC_/ HTTP/1.0\n\nHypervisor.ListVMs\n\xfe\x10\x00", func(int) byte { return 1 }},
		"JSON request": {"CONNECT /_SRPC_/unsecured/JSON HTTP/1.0\n\nHypervisor.ListVMs\n{", func(int) byte { return ' ' }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := s.open()
			if _, err := io.WriteString(conn, c.begin); err != nil {
				t.Fatal(err)
			}
			trickle(t, conn, c.data)
		})
	}
}

// TestRefusedWhileSending: the client reads why, also if it sent all that it had before it read.
func TestRefusedWhileSending(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), func(o *srpcshim.Options) { o.OpenReads = true })
	const plain = "CONNECT /_goSRPC_/ HTTP/1.0\n\n"
	good := "HTTP/1.0 200 Connected to Go SRPC\r\n\r\n"
	for name, c := range map[string]struct{ sent, want string }{
		"1 MB of header":      {"CONNECT / HTTP/1.0\n" + strings.Repeat("a: b\n", 200000) + "\n", "too many header lines"},
		"1 MB in a header":    {"CONNECT / HTTP/1.0\na: " + strings.Repeat("b", 1<<20) + "\n\n", "line is too long"},
		"1 MB of path":        {"CONNECT /" + strings.Repeat("b", 1<<20) + " HTTP/1.0\n\n", "line is too long"},
		"NUL":                 {"CONNECT /_go_TLS_SRPC_/\x00 HTTP/1.0\n\n", "HTTP/1.0 400 Bad Request"},
		"only NULs":           {strings.Repeat("\x00", 1<<20), "line is too long"},
		"body":                {"CONNECT /_goSRPC_/ HTTP/1.0\nContent-Length: 5\n\nhello\n", good + "malformed Service.Method: hello\n"},
		"body before TLS":     {"CONNECT /_go_TLS_SRPC_/ HTTP/1.0\nContent-Length: 5\n\nhello", good},
		"1 MB of method":      {plain + strings.Repeat("x", 1<<20) + "\n", good + "line is too long\n"},
		"1 MB of binary junk": {plain + strings.Repeat("\x00\xff\x16\r", 1<<18), good + "line is too long\n"},
		"huge request":        {plain + "Hypervisor.ListVMs\n\xfc\x01\x00\x00\x00" + strings.Repeat("x", 12<<20), good + "\nrequest is larger than 2097152 bytes\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := s.open()
			if _, err := io.WriteString(conn, c.sent); err != nil {
				t.Errorf("sending: %v", err)
			}
			if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				t.Error("could not end sending")
			}
			if got, err := io.ReadAll(conn); err != nil || !strings.Contains(string(got), c.want) {
				t.Errorf("%.200q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestJunkLines: each line has one answer of one line, whatever is in it.
func TestJunkLines(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), func(o *srpcshim.Options) { o.OpenReads = true })
	conn := s.open()
	in := bufio.NewReader(conn)
	if _, err := srpctest.Connect(conn, in, "CONNECT /_goSRPC_/ HTTP/1.0\n\n"); err != nil {
		t.Fatal(err)
	}
	for b := range 256 {
		if b == '\n' {
			continue
		}
		if _, err := conn.Write([]byte{'x', byte(b), '.', byte(b), 'y', '\n'}); err != nil {
			t.Fatal(err)
		}
		line, err := in.ReadString('\n')
		if err != nil || in.Buffered() > 0 || !strings.HasPrefix(line, "unknown service: x") && !strings.HasPrefix(line, "malformed Service.Method") {
			t.Errorf("%#x: %q, %v", b, line, err)
		}
	}
}

// ending is a log that tells of connections that have ended.
type ending chan struct{}

func (ending) Enabled(context.Context, slog.Level) bool { return true }

func (e ending) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "SRPC connection ended" {
		e <- struct{}{}
	}
	return nil
}

func (e ending) WithAttrs([]slog.Attr) slog.Handler { return e }
func (e ending) WithGroup(string) slog.Handler      { return e }

// TestNeverReads: who does not read its answers is given up, and nobody else notices.
func TestNeverReads(t *testing.T) {
	t.Parallel()
	left := make(chan error, 1)
	services := answering()
	info := services.vmInfo
	services.vmInfo = func(ctx context.Context, r *hypervisorv1.GetVmInfoRequest) (*hypervisorv1.GetVmInfoResponse, error) {
		if r.GetVm() != "10.0.0.9" {
			return info(ctx, r)
		}
		left <- nil
		return &hypervisorv1.GetVmInfoResponse{VmInfo: &hypervisorv1.VmInfo{Tags: map[string]string{"large": strings.Repeat("x", 40<<20)}}}, nil
	}
	services.updates = func(stream updatesStream) error {
		var err error
		for err == nil {
			err = stream.Send(&hypervisorv1.GetUpdatesResponse{Update: &hypervisorv1.Update{
				Subnets: &hypervisorv1.SubnetList{Subnets: []*hypervisorv1.Subnet{{Id: strings.Repeat("x", 100<<10)}}},
			}})
		}
		left <- err
		return err
	}
	ended := make(ending, 10)
	s := serve(t, services, func(o *srpcshim.Options) { o.Limits.Reply, o.Log = 100*time.Millisecond, slog.New(ended) })
	good := s.dial(srpctest.SecureGob, "alice")
	for _, method := range []string{"Hypervisor.GetUpdates", "Hypervisor.GetVmInfo"} {
		c := s.dial(srpctest.SecureGob, "alice")
		if err := c.Start(method); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(srpctest.VMRequest{IpAddress: ip("10.0.0.9")}); err != nil {
			t.Fatal(err)
		}
		if err := <-left; method == "Hypervisor.GetUpdates" && err == nil {
			t.Error("updates go on for nobody")
		}
		if err := good.Call("Hypervisor.GetVmInfo", srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, new(srpctest.GetVmInfoReply)); err != nil {
			t.Error(err)
		}
		<-ended
		if n, err := io.Copy(io.Discard, c); err == nil || n > 32<<20 {
			t.Errorf("%s: %d bytes, %v", method, n, err)
		}
	}
}
