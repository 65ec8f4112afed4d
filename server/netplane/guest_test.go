package netplane_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for something that should come at once.
const patience = 20 * time.Second

// guest is a network namespace with one card, which is connected to a bridge.
type guest struct {
	t   *testing.T
	pid int
	dir string
	mac string
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// makeBridge makes a bridge with an address.
func makeBridge(t *testing.T, name, address string) {
	t.Helper()
	run(t, "ip", "link", "add", name, "type", "bridge")
	if address != "" {
		run(t, "ip", "addr", "add", address, "dev", name)
	}
	run(t, "ip", "link", "set", name, "up")
}

// newGuest connects a card with a MAC address to a bridge. It ends with its test.
func newGuest(t *testing.T, bridge, mac string) *guest {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "busybox", "sleep", "300")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	g := &guest{t: t, pid: cmd.Process.Pid, dir: t.TempDir(), mac: mac}
	port := fmt.Sprintf("p%x", g.pid)
	run(t, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(g.pid))
	run(t, "ip", "link", "set", port, "master", bridge, "up")
	g.run("ip", "link", "set", "lo", "up")
	g.run("ip", "link", "set", "eth0", "address", mac, "up")
	script := "#!/bin/sh\n" + `echo "EVENT=$1" >>` + g.dir + "/events\nenv | sort >" + g.dir + `/env.$1
case "$1" in
deconfig) ip addr flush dev $interface ;;
bound|renew)
	ip addr flush dev $interface; ip addr add $ip/$mask dev $interface
	[ -z "$router" ] || ip route replace default via $router
	set -- $staticroutes
	while [ $# -ge 2 ]; do
		if [ $2 = 0.0.0.0 ]; then ip route replace $1 dev $interface; else ip route replace $1 via $2; fi
		shift 2
	done ;;
esac
`
	if err := os.WriteFile(filepath.Join(g.dir, "script"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *guest) enter(args ...string) []string {
	return append([]string{"-t", fmt.Sprint(g.pid), "-n", "--"}, args...)
}

// run runs a program in the guest's network.
func (g *guest) run(args ...string) {
	g.t.Helper()
	run(g.t, "nsenter", g.enter(args...)...)
}

// lease has the guest ask for a lease, and returns what it was told, by the names of udhcpc.
func (g *guest) lease(args ...string) map[string]string {
	g.t.Helper()
	g.run(append([]string{"busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-t", "8", "-T", "1", "-s", g.dir + "/script", "-O", "121"}, args...)...)
	return g.told("bound")
}

// noLease has the guest ask and fails if it gets one.
func (g *guest) noLease() {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "nsenter", g.enter("busybox", "udhcpc", "-f", "-n", "-q", "-i", "eth0", "-t", "2", "-T", "1", "-s", "/bin/true")...)
	if out, err := cmd.CombinedOutput(); err == nil {
		g.t.Errorf("a card that should get no lease got one:\n%s", out)
	}
}

func (g *guest) told(event string) map[string]string {
	g.t.Helper()
	raw, err := os.ReadFile(filepath.Join(g.dir, "env."+event))
	if err != nil {
		g.t.Fatal(err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		all[name] = value
	}
	return all
}

// client starts a DHCP client that stays, and returns its process.
func (g *guest) client() *os.Process {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "nsenter", g.enter("busybox", "udhcpc", "-f", "-i", "eth0", "-t", "8", "-T", "1", "-A", "1", "-s", g.dir+"/script")...)
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process
}

// awaitEvents waits until the client has seen events in this order, and perhaps others between.
func (g *guest) awaitEvents(want ...string) {
	g.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		raw, _ := os.ReadFile(filepath.Join(g.dir, "events"))
		rest, all := string(raw), true
		for _, w := range want {
			_, after, found := strings.Cut(rest, "EVENT="+w+"\n")
			rest, all = after, all && found
		}
		if all {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("the client saw\n%swant %v", raw, want)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-g.t.Context().Done():
			g.t.Fatal(g.t.Context().Err())
		}
	}
}

// inside calls f on a thread that is in the guest's network.
func (g *guest) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", g.pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// get asks the metadata service for a path and returns status and body.
func (g *guest) get(path string, headers ...string) (status int, body string) {
	g.t.Helper()
	err := g.inside(func() error {
		d := net.Dialer{Timeout: patience}
		conn, err := d.DialContext(g.t.Context(), "tcp4", "169.254.169.254:80")
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n%s\r\n", path, strings.Join(append(headers, ""), "\r\n")); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var text strings.Builder
		_, err = bufio.NewReader(res.Body).WriteTo(&text)
		status, body = res.StatusCode, text.String()
		return err
	})
	if err != nil {
		g.t.Fatalf("%s: %v", path, err)
	}
	return status, body
}
