// Package serial is one serial port of a machine as drivers offer it: what the guest said last is kept, one session at a time is
// connected, and another may take its place. The package knows neither libvirt nor machines; a driver feeds it with the guest's
// output and gives it a writer for the guest's input.
package serial

import (
	"io"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// historyLimit is how much output is kept for a session that comes later.
	historyLimit = 64 << 10
	// lagLimit is how far a session's reader may fall behind before it loses the oldest output. The guest never waits for a reader:
	// a terminal that nobody looks at must not stop a kernel that writes to it.
	lagLimit = 1 << 20
)

// Port is a serial port. Make one with New.
type Port struct {
	input io.Writer

	mu      sync.Mutex
	kept    []byte // the output from offset first on
	first   int64
	session *Session
	closed  bool
}

// New makes a port. input gets what sessions write.
func New(input io.Writer) *Port { return &Port{input: input} }

// Output adds what the guest said. It never waits.
func (p *Port) Output(text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = append(p.kept, text...)
	limit := historyLimit
	if p.session != nil {
		limit = lagLimit
	}
	// Trimming at twice the limit makes each byte move at most once.
	if len(p.kept) > 2*limit {
		drop := len(p.kept) - limit
		p.kept = append(p.kept[:0], p.kept[drop:]...)
		p.first += int64(drop)
	}
	p.session.wake()
}

// Connect starts a session. It reads the last 64 KiB of output first. If there is a session already, Connect fails with
// FailedPrecondition, or ends that one if takeover is set. Connecting to a closed port fails with FailedPrecondition.
func (p *Port) Connect(takeover bool) (*Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fault.New(fault.FailedPrecondition, "serial port: the machine has stopped")
	}
	if p.session != nil {
		if !takeover {
			return nil, fault.New(fault.FailedPrecondition, "serial port: another session is connected; take it over or wait for its end")
		}
		p.session.end()
	}
	s := &Session{port: p, changed: make(chan struct{}, 1), ended: make(chan struct{})}
	s.next = max(p.first, p.first+int64(len(p.kept))-historyLimit)
	p.session = s
	return s, nil
}

// Idle reports whether no session is connected.
func (p *Port) Idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session == nil
}

// Close says that the machine has stopped. The session reads what is left and then io.EOF.
func (p *Port) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.session.wake()
}

// Session is a connection to a port. Read and Write may be called at once from two goroutines.
type Session struct {
	port    *Port
	next    int64 // offset of the next byte to read; only Read uses it
	changed chan struct{}
	ended   chan struct{} // closed when the session was closed or taken over; guarded by the port's mutex
}

// Read waits for output. It returns io.EOF when the machine has stopped, or when another session took over.
func (s *Session) Read(b []byte) (int, error) {
	for len(b) > 0 {
		if n, err := s.take(b); n > 0 || err != nil {
			return n, err
		}
		select {
		case <-s.changed:
		case <-s.ended:
		}
	}
	return 0, nil
}

func (s *Session) take(b []byte) (int, error) {
	p := s.port
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != s {
		return 0, io.EOF
	}
	s.next = max(s.next, p.first)
	n := copy(b, p.kept[s.next-p.first:])
	s.next += int64(n)
	if n == 0 && p.closed {
		return 0, io.EOF
	}
	return n, nil
}

// Write sends input to the guest.
func (s *Session) Write(b []byte) (int, error) {
	s.port.mu.Lock()
	live := s.port.session == s && !s.port.closed
	s.port.mu.Unlock()
	if !live {
		return 0, io.ErrClosedPipe
	}
	return s.port.input.Write(b)
}

// Close ends the session and frees the port for another.
func (s *Session) Close() error {
	s.port.mu.Lock()
	defer s.port.mu.Unlock()
	if s.port.session == s {
		s.port.session = nil
		s.end()
	}
	return nil
}

// end makes a waiting Read look again. The port's mutex is held.
func (s *Session) end() { close(s.ended) }

func (s *Session) wake() {
	if s == nil {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
