package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/srpcshim/gobtest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// watch lets a good client come again and again until the end that it returns, which checks what it got.
func (b *besieged) watch(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	var longest time.Duration
	calls := 0
	done.Go(func() {
		for ctx.Err() == nil {
			d, err := b.good()
			if err != nil {
				b.t.Errorf("a good client: %v", err)
				return
			}
			longest, calls = max(longest, d), calls+1
		}
	})
	return func() {
		cancel()
		done.Wait()
		b.t.Logf("good client: %d connections with a call, at most %v", calls, longest)
		if calls == 0 || longest > prompt {
			b.t.Errorf("a good client waited %v for the longest of %d calls", longest, calls)
		}
	}
}

// bad sends what would take a lot of memory or time, and wants an error.
func (b *besieged) bad() {
	for _, bomb := range gobtest.Bombs(2 << 20) {
		c, err := srpctest.Dial(b.t.Context(), b.t, "tcp", b.address, srpctest.SecureGob, b.shows)
		if err != nil {
			b.t.Fatal(err)
		}
		method := map[bool]string{false: "Hypervisor.ListVMs", true: "Hypervisor.UpdateSubnets"}[bomb.Subnets]
		if err := c.Start(method); err != nil {
			b.t.Fatal(err)
		}
		_, err = c.Write(bomb.Stream)
		if err := errors.Join(err, c.Status(true)); (err == nil) != bomb.Works && !strings.Contains(fmt.Sprint(err), "larger than") {
			b.t.Errorf("%s: %v", bomb.Name, err)
		}
		_ = c.Close()
	}
	for name, request := range map[string]string{
		"depth": strings.Repeat(`{"a":`, 1e5), "list": `{"Add":[` + strings.Repeat("{},", 600000) + "{}]}", "number": `{"Add":` + strings.Repeat("9", 1<<20) + "}",
		"not UTF-8": "{\"Add\":\"\xff\"}", "too large": `{"Add":"` + strings.Repeat("x", 3<<20) + `"}`,
	} {
		c, err := srpctest.Dial(b.t.Context(), b.t, "tcp", b.address, srpctest.SecureJSON, b.shows)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := c.Start("Hypervisor.UpdateSubnets"); err != nil {
			b.t.Fatal(err)
		}
		if name == "depth" {
			request += "0" + strings.Repeat("}", 1e5)
		}
		_, err = io.WriteString(c, request+"\n")
		if refused, ok := errors.AsType[*srpctest.Refused](errors.Join(err, c.Status(true))); !ok || !refused.Accepted {
			b.t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
	}
}

// uploads sends images that are refused, and less than was announced.
func (b *besieged) uploads() {
	for i := range 20 {
		c, err := srpctest.Dial(b.t.Context(), b.t, "tcp", b.address, srpctest.SecureGob, b.shows)
		if err != nil {
			b.t.Fatal(err)
		}
		reply := new(struct{ Error string })
		err = errors.Join(c.Start("Hypervisor.CreateVm"), c.Send(struct{ ImageDataSize uint64 }{1 << (40 + i)}))
		_, sent := c.Write(make([]byte, 4<<20))
		if half, ok := c.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
			b.t.Error("can not end sending")
		}
		if err := errors.Join(err, sent, c.Receive(reply)); err != nil || reply.Error == "" {
			b.t.Errorf("upload: %q, %v", reply.Error, err)
		}
		_ = c.Close()
	}
}

// upgrade begins to move a connection to the Unix socket, where a stranger comes.
func (b *besieged) upgrade(conn net.Conn) error {
	c := &srpctest.Client{Conn: conn, In: bufio.NewReader(conn), Path: srpctest.SecureGob}
	if err := b.secure(c); err != nil {
		return err
	}
	call, err := c.Converse(".LocalUpgradeToUnix")
	reply := new(srpctest.UpgradeReplyOne)
	if err := errors.Join(err, call.Send(srpctest.UpgradeRequestOne{ClientCookie: []byte("8 bytes!")}), call.Receive(reply)); err != nil || reply.Error != "" {
		return errors.Join(err, errors.New(reply.Error))
	}
	stranger, err := new(net.Dialer).DialContext(b.t.Context(), "unix", reply.SocketPathname)
	if err != nil {
		return err
	}
	_, err = io.WriteString(stranger, "what?")
	return errors.Join(err, stranger.Close())
}

// unread asks for updates and never reads them.
func (b *besieged) unread(conn net.Conn) error {
	c := &srpctest.Client{Conn: conn, In: bufio.NewReader(conn), Path: srpctest.SecureGob}
	err := b.secure(c)
	if err == nil {
		_, err = io.WriteString(c, "Hypervisor.GetUpdates\n")
	}
	return err
}

// secure begins a connection.
func (b *besieged) secure(c *srpctest.Client) error {
	if _, err := srpctest.Connect(c.Conn, bufio.NewReader(io.LimitReader(c.Conn, int64(len(connected)))), "CONNECT "+c.Path+" HTTP/1.0\n\n"); err != nil {
		return err
	}
	secured := tls.Client(c.Conn, b.shows)
	c.Conn, c.In = secured, bufio.NewReaderSize(secured, 512)
	return secured.HandshakeContext(b.t.Context())
}

func (b *besieged) handshake(conn net.Conn) error {
	return b.secure(&srpctest.Client{Conn: conn, Path: srpctest.SecureGob})
}

// TestBadSRPC lets bad clients come to a daemon in which good ones go on.
func TestBadSRPC(t *testing.T) { //nolint:paralleltest // it measures how long good clients wait
	b := besiege(t)
	for range 10 {
		if _, err := b.good(); err != nil {
			t.Fatal(err)
		}
	}
	memory, files, goroutines := b.status("VmRSS"), b.files(), b.goroutines()
	t.Logf("%d KiB, %d files, %d goroutines", memory, files, goroutines)
	end := b.watch(t.Context())
	b.bad()
	b.uploads()
	end()
	b.settled(files, goroutines)
	if now := b.status("VmHWM"); now > memory+150<<10 {
		t.Errorf("bad messages made %d KiB of %d", now, memory)
	}
	t.Logf("after bad messages %d KiB, at most %d", b.status("VmRSS"), b.status("VmHWM"))

	for _, siege := range []struct {
		name   string
		begin  func(net.Conn) error
		many   int
		each   int // KiB
		stayed int // files
	}{
		{"abandoned upgrades", b.upgrade, 1000, 128, 2 * 1000},
		{"updates that nobody reads", b.unread, 1000, 128, 1000},
		{"TLS", b.handshake, crowd, 64, crowd},
		{"half a CONNECT", func(conn net.Conn) error { _, err := io.WriteString(conn, "CONNECT /"); return err }, crowd, 24, 2048},
	} {
		before, start := b.status("VmRSS"), time.Now()
		all := b.rest(siege.many, siege.begin)
		eventually(t, func() (int, bool) { n := b.files(); return n, n <= files+siege.stayed+20 })
		t.Logf("%s: in %v %d connections, %d files, %.1f KiB for each that stays", siege.name, time.Since(start), len(all), b.files()-files,
			float64(b.status("VmRSS")-before)/float64(min(siege.many, siege.stayed)))
		if now := b.status("VmRSS"); now > before+siege.each*siege.stayed {
			t.Errorf("%s: %d KiB have become %d", siege.name, before, now)
		}
		if d, err := b.good(); err != nil || d > prompt {
			t.Errorf("%s: a good client waited %v, %v", siege.name, d, err)
		}
		for _, conn := range all {
			_ = conn.Close()
		}
		b.settled(files, goroutines)
		t.Logf("%s: afterwards %d KiB, all in %v", siege.name, b.status("VmRSS"), time.Since(start))
	}
}
