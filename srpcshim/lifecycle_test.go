package srpcshim_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// blocking is a service whose StopVm says on entered that it runs, waits for leave, and says on left how its context was.
type blocking struct {
	*services
	entered, leave chan struct{}
	left           chan error
}

func block() *blocking {
	b := &blocking{answering(), make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)}
	b.stop = func(ctx context.Context, _ *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error) {
		b.entered <- struct{}{}
		select {
		case <-b.leave:
		case <-ctx.Done():
		}
		b.left <- ctx.Err()
		return &hypervisorv1.StopVmResponse{}, ctx.Err()
	}
	return b
}

func TestServersEndLetsTheCallFinish(t *testing.T) {
	t.Parallel()
	b := block()
	s := serve(t, b.services, nil)
	idle, busy := s.dial(srpctest.SecureGob, "alice"), s.dial(srpctest.SecureGob, "alice")
	answer := make(chan error, 1)
	go func() {
		answer <- busy.Call("Hypervisor.StopVm", srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, new(srpctest.ErrorReply))
	}()
	<-b.entered
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.end()
	}()
	if _, err := idle.In.ReadByte(); err == nil {
		t.Error("idle connection stays")
	}
	close(b.leave)
	if err := <-answer; err != nil {
		t.Errorf("call under way: %v", err)
	}
	<-ended
	if err := busy.Ping(); err == nil {
		t.Error("served after the server's end")
	}
}

func TestServersEndCutsACallThatTakesTooLong(t *testing.T) {
	t.Parallel()
	b := block()
	s := serve(t, b.services, func(o *srpcshim.Options) { o.Limits.Drain = 10 * time.Millisecond })
	c := s.dial(srpctest.SecureGob, "alice")
	go func() { _ = c.Call("Hypervisor.StopVm", srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, nil) }() // it may fail as it likes
	<-b.entered
	s.end()
	if err := <-b.left; err == nil {
		t.Error("the call was not cancelled")
	}
}

// TestLostClientEndsItsCall: killed clients break TLS; those that only finished sending still get their answer.
func TestLostClientEndsItsCall(t *testing.T) {
	t.Parallel()
	b := block()
	s := serve(t, b.services, nil)
	c := s.dial(srpctest.SecureGob, "alice")
	go func() { _ = c.Call("Hypervisor.StopVm", srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, nil) }() // it fails: its connection is closed
	<-b.entered
	raw, ok := c.Conn.(interface{ NetConn() net.Conn })
	if !ok {
		t.Fatal("no TLS")
	}
	if err := raw.NetConn().Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-b.left; err == nil {
		t.Error("the call of a lost client was not cancelled")
	}

	c = s.dial(srpctest.SecureJSON, "alice")
	if _, err := io.WriteString(c, "Hypervisor.StopVm\n{\"IpAddress\":\"10.0.0.1\"}\n"); err != nil {
		t.Fatal(err)
	}
	<-b.entered
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("no TLS")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(b.leave)
	if rest, err := io.ReadAll(c.In); err != nil || string(rest) != "\n\n{\"Error\":\"\"}\n" {
		t.Errorf("half-closed client got %q, %v", rest, err)
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), func(o *srpcshim.Options) {
		o.Limits = srpcshim.Limits{Greeting: 20 * time.Millisecond, Idle: 20 * time.Millisecond, Request: 20 * time.Millisecond, Handshake: 20 * time.Millisecond}
		o.OpenReads = true
	})
	for name, begin := range map[string]string{
		"greeting": "CONNECT", "handshake": "CONNECT " + srpctest.SecureGob + " HTTP/1.0\n\n", "idle": "CONNECT " + srpctest.PlainGob + " HTTP/1.0\n\n",
		"method line": "CONNECT " + srpctest.PlainGob + " HTTP/1.0\n\nHyper", "request": "CONNECT " + srpctest.PlainJSON + " HTTP/1.0\n\nHypervisor.ListVMs\n{",
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: %v instead of the end", name, err)
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), func(o *srpcshim.Options) { o.Limits.RequestBytes = 1000 })
	for path, request := range map[string]any{
		srpctest.SecureGob:  srpctest.ListRequest{OwnerUsers: []string{strings.Repeat("x", 2000)}},
		srpctest.SecureJSON: map[string]any{"OwnerUsers": []string{strings.Repeat("x", 2000)}},
	} {
		c := s.dial(path, "alice")
		if got := textOf(c.Call("Hypervisor.ListVMs", request, nil)); got != "request is larger than 1000 bytes" {
			t.Errorf("%s: %q", path, got)
		}
	}
}

// TestConnectRequests sends what clients send, and what they should not.
func TestConnectRequests(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), nil)
	good := "HTTP/1.0 200 Connected to Go SRPC"
	for request, want := range map[string]string{
		"CONNECT /_go_TLS_SRPC_/ HTTP/1.0\n\n":                                good,
		"CONNECT /_SRPC_/TLS/JSON HTTP/1.0\r\nHost: x\r\n\r\n":                good,
		"CONNECT /_go_TLS_SRPC_/?doNotUseMethodPowers=true HTTP/1.0\r\n\r\n":  good,
		"CONNECT /_goSRPC_/ HTTP/1.0\r\n\r\n":                                 "HTTP/1.0 405 Method Not Allowed",
		"CONNECT /_SRPC_/unsecured/JSON HTTP/1.0\n\n":                         "HTTP/1.0 405 Method Not Allowed",
		"CONNECT /nothere HTTP/1.0\r\n\r\n":                                   "HTTP/1.0 404 Not Found",
		"CONNECT host:80 HTTP/1.1\r\n\r\n":                                    "HTTP/1.0 404 Not Found",
		"GET /_go_TLS_SRPC_/ HTTP/1.0\r\n\r\n":                                "HTTP/1.0 400 Bad Request",
		"CONNECT\n\n":                                                         "HTTP/1.0 400 Bad Request",
		"CONNECT /" + strings.Repeat("x", 5000) + " HTTP/1.0\n\n":             "HTTP/1.0 400 Bad Request",
		"CONNECT / HTTP/1.0\n" + strings.Repeat("a: b\n", 100) + "\n":         "HTTP/1.0 400 Bad Request",
		"CONNECT /_go_TLS_SRPC_/%zz HTTP/1.0\n\n":                             "HTTP/1.0 400 Bad Request",
		"CONNECT /_go_TLS_SRPC_/ SPDY/1\n\n":                                  "HTTP/1.0 400 Bad Request",
		"CONNECT /_go_TLS_SRPC_/extra/path/below?doNotUse=1 HTTP/1.0\r\n\r\n": "HTTP/1.0 404 Not Found",
	} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		lines, err := srpctest.Connect(conn, bufio.NewReader(conn), request)
		if err != nil || lines[0] != want {
			t.Errorf("%.60q: %q, %v; want %q", request, lines, err, want)
		}
	}
}

// TestJSONFraming: the newline after a request is never taken for a ping, whenever it comes, and requests may have many lines.
func TestJSONFraming(t *testing.T) {
	t.Parallel()
	s := serve(t, answering(), nil)
	const list = `{"IpAddresses":["10.0.0.1","fd00::1"]}` + "\n"
	for name, c := range map[string]struct {
		sent []string // one write each, with an answer after it
		want []string
	}{
		"one write":       {[]string{"Hypervisor.ListVMs\n{\"Sort\":true}\n\n"}, []string{"\n\n" + list + "\n"}},
		"CR LF":           {[]string{"Hypervisor.ListVMs\r\n", "{}\r\n", "\r\n"}, []string{"\n", "\n" + list, "\n"}},
		"many lines":      {[]string{"Hypervisor.ListVMs\n", "{\n \"OwnerUsers\": [\"}\\\"{\"]\n}\n", "\n"}, []string{"\n", "\n" + list, "\n"}},
		"late newline":    {[]string{"Hypervisor.ListVMs\n", "{}", "\n\n"}, []string{"\n", "\n" + list, "\n"}},
		"no newline":      {[]string{"Hypervisor.ListVMs\n", "{}", "Hypervisor.ListVMs\n"}, []string{"\n", "\n" + list, "\n"}},
		"exactly 512":     {[]string{"Hypervisor.ListVMs\n", fmt.Sprintf("{\"Sort\":true%*s}\n", 512-13, ""), "\n"}, []string{"\n", "\n" + list, "\n"}},
		"after undecoded": {[]string{"Hypervisor.ListVMs\n", "{\"Sort\":1]\n", "\n"}, []string{"\n", "invalid character ']' after object key:value pair\n", "\n"}},
		"two in a write":  {[]string{"Hypervisor.ListVMs\n{}\nHypervisor.ListVMs\n{}\n"}, []string{"\n\n" + list + "\n\n" + list}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := s.dial(srpctest.SecureJSON, "alice")
			for i, data := range c.sent {
				if _, err := io.WriteString(conn, data); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(c.want[i]))
				if _, err := io.ReadFull(conn.In, got); err != nil || string(got) != c.want[i] {
					t.Fatalf("after %q: %q, %v; want %q", data, got, err, c.want[i])
				}
			}
			if conn.In.Buffered() > 0 {
				t.Error("more than was asked for")
			}
		})
	}
}

// TestPanicEndsOnlyItsConnection: in the product an interceptor catches panics of handlers; what it does not catch must not end the server.
func TestPanicEndsOnlyItsConnection(t *testing.T) {
	t.Parallel()
	s := answering()
	s.stop = func(context.Context, *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error) {
		panic("a bug")
	}
	srv := serve(t, s, nil)
	bad, good := srv.dial(srpctest.SecureGob, "alice"), srv.dial(srpctest.SecureGob, "alice")
	if err := bad.Call("Hypervisor.StopVm", srpctest.VMRequest{IpAddress: ip("10.0.0.1")}, nil); err == nil {
		t.Error("an answer from a handler that panicked")
	}
	if err := good.Ping(); err != nil {
		t.Errorf("another connection: %v", err)
	}
}
