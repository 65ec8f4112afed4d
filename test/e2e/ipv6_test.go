package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// inNetwork calls f on a thread that is in the daemon's network.
func (d *daemon) inNetwork(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", d.PID()))
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

// TestGuestGetsItsIPv6Address boots a real guest that is given an IPv6 address, takes it from the daemon by DHCPv6, learns its way out from the daemon's
// router advertisements, and is reached from the host.
func TestGuestGetsItsIPv6Address(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	d := startInNetwork(t, `subnets: [{id: default, bridge: hyperplane0, gateway: 10.88.0.1/24, first: 10.88.0.10, last: 10.88.0.20, domain: hyperplane.internal,
  ipv6_gateway: "fd00:88::1/64", ipv6_dns: ["2001:db8::53"]}]`)
	if list := d.must("subnet", "list"); !strings.Contains(list, "fd00:88::1/64") {
		t.Errorf("the subnet is listed as\n%s", list)
	}
	// The guest's busybox has no client of DHCPv6: it gets one as its user data.
	client := filepath.Join(t.TempDir(), "client")
	if _, err := proc.Run(ctx, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", client, "./dhcp6client"); err != nil {
		t.Fatal(err)
	}
	d.must("vm", "create", "guest-1", "--memory", "160M", "--cpus", "1", "--image", guest.Cache(t).QCOW2, "--progress", "none", "--user-data", client, "--ipv6", "FD00:88:0::A")
	if shown := d.must("vm", "get", "fd00:88::a"); !strings.Contains(shown, "guest-1") || !strings.Contains(shown, "fd00:88::a") {
		t.Errorf("the VM is shown as\n%s", shown)
	}
	v := d.vm("guest-1")
	port := d.serial(ctx, v.UUID)
	port.await("GUEST IP")
	port.shell("wget -q -O /run/client http://169.254.169.254/latest/user-data && chmod +x /run/client && echo fetched-$?", "fetched-0")
	// The guest's DHCP client has its script flush the card's addresses, the link-local one of IPv6 too if it was there already.
	port.shell("cd /proc/sys/net/ipv6/conf/eth0 && echo 1 >disable_ipv6 && echo 0 >disable_ipv6 && echo again-$?", "again-0")
	port.shell("/run/client eth0", "GUEST6 fd00:88::a dns [2001:db8::53] end")
	port.shell("ip -6 route show default", "default via fe80::")

	err := d.inNetwork(func() error {
		conn, err := (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, "tcp6", "[fd00:88::a]:7")
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := conn.Write([]byte("hello\n")); err != nil {
			return err
		}
		buf := make([]byte, 6)
		if n, err := conn.Read(buf); err != nil || !strings.HasPrefix("hello\n", string(buf[:n])) {
			return fmt.Errorf("answer %q, %w", buf[:n], err)
		}
		return exec.CommandContext(ctx, "busybox", "ping6", "-c", "1", "-W", "30", "fd00:88::a").Run()
	})
	if err != nil {
		t.Errorf("the guest from the host: %v", err)
	}

	// The address is the VM's as long as it exists, and free again afterwards.
	create := []string{"vm", "create", "guest-2", "--memory", "64M", "--size", "1M", "--no-start", "--progress", "none", "--ipv6", "fd00:88::a"}
	d.refuses("in use by VM "+v.UUID, create...)
	d.must("vm", "destroy", "guest-1")
	d.must(create...)
}
