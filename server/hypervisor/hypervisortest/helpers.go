package hypervisortest

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// blank is a machine with nothing to boot: its firmware runs and ignores the power button.
func blank() hypervisor.Spec {
	id := uuid.NewString()
	return hypervisor.Spec{UUID: id, Name: "blank-" + id[:8], CPUs: 1, MemoryBytes: 32 << 20}
}

// bootable is a machine that boots the test guest.
func (t *suite) bootable() hypervisor.Spec {
	t.Helper()
	spec := blank()
	spec.Name = "guest-" + spec.UUID[:8]
	spec.MemoryBytes = t.GuestMemory
	spec.Disks = []hypervisor.Disk{t.GuestDisk(t.T)}
	return spec
}

// define defines a machine and takes it away when the test ends.
func (t *suite) define(spec hypervisor.Spec) {
	t.Helper()
	t.Cleanup(func() { t.remove(spec.UUID) })
	t.must(t.Driver.Define(t.Context(), spec))
}

func (t *suite) remove(id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), t.Patience)
	defer cancel()
	if err := t.Driver.Kill(ctx, id); err != nil && !gone(err) {
		t.Errorf("cleanup: %v", err)
	}
	if err := t.Driver.Undefine(ctx, id); err != nil && !gone(err) {
		t.Errorf("cleanup: %v", err)
	}
}

// gone says whether a cleanup failed because the test has already removed the machine or closed the driver.
func gone(err error) bool { return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unavailable) }

// start defines and starts a machine.
func (t *suite) start(spec hypervisor.Spec) {
	t.Helper()
	t.define(spec)
	t.must(t.Driver.Start(t.Context(), spec.UUID))
}

// boot defines and starts a guest, and returns its serial port when it is ready.
func (t *suite) boot(spec hypervisor.Spec) *console {
	t.Helper()
	t.start(spec)
	c := t.openConsole(spec.UUID)
	c.await("GUEST READY")
	return c
}

func (t *suite) state(id string) hypervisor.State {
	t.Helper()
	m, err := t.Driver.Get(t.Context(), id)
	t.must(err)
	return m.State
}

func (t *suite) expectState(id string, want hypervisor.State) {
	t.Helper()
	if got := t.state(id); got != want {
		t.Fatalf("the machine is %s, not %s", got, want)
	}
}

// awaitState watches until a machine is in a state, and then expects Get to say so too.
func (t *suite) awaitState(id string, want hypervisor.State) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), t.Patience)
	defer cancel()
	events, err := t.Driver.Watch(ctx)
	t.must(err)
	last := "not seen"
	for ev := range events {
		if ev.UUID != id {
			continue
		}
		if ev.State == want && !ev.Gone {
			t.expectState(id, want)
			return
		}
		last = ev.State.String()
	}
	t.Fatalf("the machine is not %s in time; it was last %s", want, last)
}

// console reads a serial port all the time and lets a test wait for text.
type console struct {
	t    *suite
	conn io.ReadWriteCloser

	mu      sync.Mutex
	text    strings.Builder
	seen    int // how much of the text was awaited
	ended   bool
	changed chan struct{}
}

func (t *suite) openConsole(id string) *console {
	t.Helper()
	conn, err := t.Driver.OpenSerial(t.Context(), id, false)
	t.must(err)
	return t.newConsole(conn)
}

func (t *suite) newConsole(conn io.ReadWriteCloser) *console {
	t.Helper()
	c := &console{t: t, conn: conn, changed: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(c, conn)
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
		c.notify()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return c
}

// Write adds what was read from the port.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text.Write(b)
	c.notify()
	return len(b), nil
}

func (c *console) notify() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// await waits for text after what was awaited before, and returns the line that it is in.
func (c *console) await(text string) string {
	c.t.Helper()
	line, err := c.find(text)
	if err != nil {
		c.t.Fatalf("waiting for %q: %v; the port said:\n%s", text, err, c)
	}
	return line
}

// awaitEnd waits until the port is closed from the other side.
func (c *console) awaitEnd() {
	c.t.Helper()
	// The text contains a byte that no terminal sends, so only the end ends the wait.
	if _, err := c.find("\x00never"); err != io.EOF { //nolint:errorlint // our own value
		c.t.Fatalf("the port did not end: %v", err)
	}
}

func (c *console) find(text string) (string, error) {
	c.t.Helper()
	timer := time.NewTimer(c.t.Patience)
	defer timer.Stop()
	for {
		line, found, ended := c.search(text)
		if found {
			return line, nil
		}
		if ended {
			return "", io.EOF
		}
		select {
		case <-c.changed:
		case <-timer.C:
			return "", context.DeadlineExceeded
		}
	}
}

// search looks for text in complete lines that were not awaited yet.
func (c *console) search(text string) (line string, found, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.text.String()[c.seen:]
	at := strings.Index(rest, text)
	if at < 0 {
		return "", false, c.ended
	}
	length := strings.IndexByte(rest[at:], '\n')
	if length < 0 {
		return "", false, c.ended
	}
	c.seen += at + length + 1
	return strings.TrimSpace(rest[at : at+length]), true, c.ended
}

func (c *console) say(line string) {
	c.t.Helper()
	_, err := io.WriteString(c.conn, line+"\n")
	c.t.must(err)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// network makes a network that no other test has, and removes it when the test ends. Isolated, because translation needs a firewall.
func (t *suite) network() hypervisor.Network {
	t.Helper()
	id := uuid.New()
	n := hypervisor.Network{
		Name: "net-" + id.String()[:8], Bridge: "hp" + id.String()[:8], Isolated: true,
		Gateway: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, id[0], id[1], 1}), 24),
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), t.Patience)
		defer cancel()
		if err := t.Driver.RemoveNetwork(ctx, n.Name); err != nil && !gone(err) {
			t.Errorf("cleanup: %v", err)
		}
	})
	t.must(t.Driver.EnsureNetwork(t.Context(), n))
	return n
}

// newMAC returns a locally administered address that no other test has.
func newMAC() string {
	id := uuid.New()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", id[0], id[1], id[2], id[3])
}

func (t *suite) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (t *suite) expectCode(what string, err error, want fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != want {
		t.Errorf("%s: code %d, not %d: %v", what, fault.CodeOf(err), want, err)
	}
}

func expectSame[T any](tb testing.TB, what string, got, want T) {
	tb.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		tb.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
