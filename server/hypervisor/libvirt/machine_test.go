package libvirt_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/libvirt"
)

const patience = 2 * time.Minute

// machine is a machine of one test, which is removed when the test ends.
type machine struct {
	*testing.T
	driver *libvirt.Driver
	spec   hypervisor.Spec
}

func newMachine(t *testing.T, d *libvirt.Driver, change func(*hypervisor.Spec)) *machine {
	t.Helper()
	id := uuid.NewString()
	m := &machine{T: t, driver: d, spec: hypervisor.Spec{UUID: id, Name: "m-" + id[:8], CPUs: 1, MemoryBytes: 32 << 20}}
	if change != nil {
		change(&m.spec)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := d.Kill(ctx, id); err != nil && !gone(err) {
			t.Error(err)
		}
		if err := d.Undefine(ctx, id); err != nil && !gone(err) {
			t.Error(err)
		}
	})
	m.must(d.Define(t.Context(), m.spec))
	return m
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) start() {
	m.Helper()
	m.must(m.driver.Start(m.Context(), m.spec.UUID))
}

// awaitState waits until the machine is in a state.
func (m *machine) awaitState(want hypervisor.State) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	events, err := m.driver.Watch(ctx)
	m.must(err)
	for ev := range events {
		if ev.UUID == m.spec.UUID && ev.State == want {
			return
		}
	}
	m.Fatalf("the machine is not %s in time", want)
}

// port is the machine's serial port, with what it said since the last await.
type port struct {
	*machine
	conn io.ReadWriteCloser
	text []byte
}

func (m *machine) serial() *port {
	m.Helper()
	conn, err := m.driver.OpenSerial(m.Context(), m.spec.UUID, false)
	m.must(err)
	m.Cleanup(func() { _ = conn.Close() })
	return &port{machine: m, conn: conn}
}

// await reads until lines with all the texts have come, in any order, and returns them in the order of the texts.
func (p *port) await(texts ...string) []string {
	p.Helper()
	timer := time.AfterFunc(patience, func() { _ = p.conn.Close() })
	defer timer.Stop()
	b := make([]byte, 4096)
	for {
		if lines := p.lines(texts); lines != nil {
			return lines
		}
		n, err := p.conn.Read(b)
		if err != nil {
			p.Fatalf("waiting for %q: %v; the port said:\n%s", texts, err, p.text)
		}
		p.text = append(p.text, b[:n]...)
	}
}

// lines returns the lines with the texts and forgets what was read, or nil if one is missing.
func (p *port) lines(texts []string) []string {
	found := make([]string, len(texts))
	for line := range strings.Lines(string(p.text)) {
		for i, text := range texts {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, text) {
				found[i] = strings.TrimSpace(line)
			}
		}
	}
	if slices.Contains(found, "") {
		return nil
	}
	p.text = nil
	return found
}

func (p *port) say(line string) {
	p.Helper()
	_, err := io.WriteString(p.conn, line+"\n")
	p.must(err)
}

// gone says whether a cleanup failed because the test has removed the machine or closed the driver.
func gone(err error) bool { return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unavailable) }
