// Package fakepeer is a fake: it pretends to be another hypervisor of the Dominator ecosystem that holds one VM, for tests of who brings VMs from there. It knows only
// the protocol's secure gob endpoint and the calls that a migration or a copy needs of its source, as far as the description of the protocol says how a stock
// hypervisor answers them; no guest runs in it. It was written from that description alone and must not use srpcshim or gen/srpc: what both had wrong would go
// unseen.
//
// It checks what it is sent, keeps a record, and fails where a test wants it to. Some of what a stock hypervisor does badly is done badly here too: method
// power stands for the token, PrepareVmForMigration without access to the VM succeeds and does nothing, and digests are read with single reads.
package fakepeer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// States of a VM, as numbers on the wire.
const (
	Running   = 1
	Stopping  = 3
	Stopped   = 4
	Migrating = 6
)

// Options say what the peer is.
type Options struct {
	// Certificate is what it shows, Trust whose clients it believes.
	Certificate tls.Certificate
	Trust       *x509.CertPool
	// VM is what is known of its VM, whose key is the IP address; Token the VM's access token.
	VM    srpctest.VmInfo
	Token []byte
	// Volumes are the volumes' files. ExtraFiles are the kernel and the initrd beside the root volume.
	Volumes    [][]byte
	ExtraFiles map[string][]byte
	UserData   []byte
	// Faults are what goes wrong.
	Faults []Fault
	// Stopping is called when the VM is stopped, with the volumes: what a guest writes at its end.
	Stopping func(volumes [][]byte)
}

// Peer is a running fake. It ends with its test.
type Peer struct {
	// Addr is host:port.
	Addr string

	opts     Options
	listener net.Listener
	all      sync.WaitGroup
	done     chan struct{}

	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	vm       srpctest.VmInfo
	gone     bool
	lingers  int
	calls    []*Call
	problems []string
}

// Call is a call that was accepted or refused.
type Call struct {
	Method string
	// Powers says that the connection has the powers of the caller's certificate.
	Powers bool
	// Enable and Volume are the fields of PrepareVmForMigration and GetVmVolume.
	Enable bool
	Volume uint
	// Blocks is how many digests came, Sent how many bytes of the volume went.
	Blocks, Sent uint64
	// Err is what was answered, if not success.
	Err string
}

// Start starts a peer on a free loopback port.
func Start(tb testing.TB, o Options) *Peer {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Peer{
		Addr: listener.Addr().String(), opts: o, listener: listener, done: make(chan struct{}), conns: make(map[net.Conn]struct{}), vm: o.VM,
	}
	for i, v := range o.Volumes {
		if i == len(p.vm.Volumes) {
			p.vm.Volumes = append(slices.Clone(p.vm.Volumes), srpctest.Volume{Size: uint64(len(v))})
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	p.all.Go(func() { p.accept(ctx) })
	tb.Cleanup(func() {
		cancel()
		close(p.done)
		_ = listener.Close() // accept sees it
		p.mu.Lock()
		for c := range p.conns {
			_ = c.Close() // whoever talks there sees it
		}
		p.mu.Unlock()
		p.all.Wait()
	})
	return p
}

func (p *Peer) accept(ctx context.Context) {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[conn] = struct{}{}
		p.mu.Unlock()
		p.all.Go(func() {
			p.serve(ctx, conn)
			_ = conn.Close() // the client sees it
			p.mu.Lock()
			delete(p.conns, conn)
			p.mu.Unlock()
		})
	}
}

// Hangup ends all connections.
func (p *Peer) Hangup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // whoever talks there sees it
	}
}

// State returns the VM's state; gone says that it was destroyed.
func (p *Peer) State() (state uint, uncommitted, gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.vm.State, p.vm.Uncommitted, p.gone
}

// Calls returns what was called, in order.
func (p *Peer) Calls() (calls []Call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		calls = append(calls, *c)
	}
	return calls
}

// Methods returns the names of what was called, in order; pings are left out.
func (p *Peer) Methods() (names []string) {
	for _, c := range p.Calls() {
		names = append(names, c.Method)
	}
	return names
}

// Problems returns what a client should not have done.
func (p *Peer) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.problems)
}

func (p *Peer) problem(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
}
