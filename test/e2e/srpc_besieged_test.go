package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

const (
	// crowd is how many clients come at once.
	crowd = 10000
	// connected is the answer to a good CONNECT.
	connected = "HTTP/1.0 200 Connected to Go SRPC\r\n\r\n"
	// prompt is how long a good client may wait for a new connection and an answer.
	prompt = time.Second
)

// besieged is a daemon that bad clients come to.
type besieged struct {
	*daemon
	address string
	shows   *tls.Config
}

func besiege(t *testing.T) *besieged {
	t.Helper()
	ca, dir := srpctest.NewAuthority(t, "methods CA"), t.TempDir()
	write(t, filepath.Join(dir, "CA.pem"), string(ca.PEM()))
	write(t, filepath.Join(dir, "config.yaml"), "hypervisor: {driver: fake}\nclient_ca_file: "+filepath.Join(dir, "CA.pem")+"\n")
	d := startDaemon(t, nil, "--config", filepath.Join(dir, "config.yaml"))
	address, err := d.File(t.Context(), filepath.Join(d.dir, "address"))
	if err != nil {
		t.Fatal(err)
	}
	shows := srpctest.Shows(ca.Client("admin", nil, []string{"*.*"}))
	shows.ClientSessionCache, shows.CurvePreferences = tls.NewLRUClientSessionCache(1), []tls.CurveID{tls.X25519} // handshakes cost the test as much as the daemon
	return &besieged{d, address, shows}
}

// status returns a number of /proc/pid/status, in KiB or as it is.
func (b *besieged) status(name string) (n int) {
	b.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.PID()))
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.Output())
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	return n
}

// files returns how many files the daemon has open.
func (b *besieged) files() int { return len(entries(b.t, fmt.Sprintf("/proc/%d/fd", b.PID()))) }

// good makes a connection and a call.
func (b *besieged) good() (time.Duration, error) {
	start := time.Now()
	c, err := srpctest.Dial(b.t.Context(), b.t, "tcp", b.address, srpctest.SecureGob, b.shows)
	if err == nil {
		err = errors.Join(c.Call("Hypervisor.ListVMs", srpctest.ListRequest{Sort: true}, new(srpctest.ListVMsReply)), c.Close())
	}
	return time.Since(start), err
}

func (b *besieged) dial() net.Conn {
	conn, err := new(net.Dialer).DialContext(b.t.Context(), "tcp", b.address)
	if err != nil {
		b.t.Error(err)
		return nil
	}
	return conn
}

// rest makes many connections that do nothing more.
func (b *besieged) rest(many int, begin func(net.Conn) error) (all []net.Conn) {
	all = make([]net.Conn, many)
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			for i := w; i < many; i += 16 {
				if all[i] = b.dial(); all[i] == nil {
					return
				}
				if err := begin(all[i]); err != nil {
					b.t.Errorf("connection %d: %v", i, err)
					return
				}
			}
		})
	}
	workers.Wait()
	return all
}

// settled waits until the daemon has no more open files and goroutines than before, give or take what it does of its own.
func (b *besieged) settled(files, goroutines int) {
	b.t.Helper()
	eventually(b.t, func() ([2]int, bool) {
		now := [2]int{b.files(), b.goroutines()}
		return now, now[0] <= files+20 && now[1] <= goroutines+20
	})
}

// goroutines asks through the admin socket.
func (b *besieged) goroutines() (n int) {
	b.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(b.dir, "sock"))
	}}}
	res, err := client.Get("http://daemon/metrics") //nolint:noctx // it is on this host
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "\ngo_goroutines ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		b.t.Fatalf("%v in %.200s", err, raw)
	}
	return n
}
