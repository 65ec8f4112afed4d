package libvirt

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/keylock"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/serial"
)

// serials are the serial ports that have a session.
type serials struct {
	dialing keylock.Map[string] // by UUID

	mu     sync.Mutex
	ports  map[string]*openPort // by UUID
	closed bool
	pumps  sync.WaitGroup
}

// openPort is a connection to a guest's serial port. QEMU takes one connection at a time, so all sessions share it.
type openPort struct {
	port *serial.Port
	conn net.Conn
}

// OpenSerial implements hypervisor.Driver. ctx bounds the connecting only.
func (d *Driver) OpenSerial(ctx context.Context, machine string, takeover bool) (io.ReadWriteCloser, error) {
	source, err := d.serialSource(ctx, machine)
	if err != nil {
		return nil, err
	}
	session, err := d.serials.connect(ctx, machine, source, takeover)
	if err != nil {
		return nil, fault.Wrap(err, "machine %s", machine)
	}
	return session, nil
}

func (s *serials) connect(ctx context.Context, machine string, source serialSource, takeover bool) (io.ReadWriteCloser, error) {
	unlock, err := s.dialing.Lock(ctx, machine)
	if err != nil {
		return nil, classify(err, "connect to the serial port")
	}
	defer unlock()
	if session, err := s.join(machine, takeover); session != nil || err != nil {
		return session, err
	}
	open, err := dialSerial(ctx, source)
	if err != nil {
		return nil, err
	}
	if err := s.add(machine, open); err != nil {
		return nil, errors.Join(err, open.conn.Close())
	}
	return s.join(machine, takeover)
}

// join starts a session on a port that is connected. Without one it returns nothing.
func (s *serials) join(machine string, takeover bool) (io.ReadWriteCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.ports[machine]
	if open == nil {
		return nil, nil
	}
	session, err := open.port.Connect(takeover)
	if err != nil {
		return nil, err
	}
	return &serialSession{Session: session, serials: s, machine: machine, open: open}, nil
}

// add keeps a port and moves the guest's output into it until the connection ends.
func (s *serials) add(machine string, open *openPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed()
	}
	if s.ports == nil {
		s.ports = make(map[string]*openPort)
	}
	s.ports[machine] = open
	s.pumps.Go(func() {
		_, _ = io.Copy(outputOf{open.port}, open.conn) // however it ends, the port is of no more use
		s.drop(machine, open)
		open.port.Close()
	})
	return nil
}

// drop forgets a port and ends its connection.
func (s *serials) drop(machine string, open *openPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(machine, open)
}

func (s *serials) dropLocked(machine string, open *openPort) {
	if s.ports[machine] == open {
		delete(s.ports, machine)
	}
	_ = open.conn.Close()
}

// outputOf is the writer for what a guest says.
type outputOf struct{ port *serial.Port }

func (w outputOf) Write(b []byte) (int, error) {
	w.port.Output(b)
	return len(b), nil
}

// close ends all sessions.
func (s *serials) close() {
	s.mu.Lock()
	s.closed = true
	for _, open := range s.ports {
		_ = open.conn.Close()
	}
	s.mu.Unlock()
	s.pumps.Wait()
}

// serialSession is a session that lets go of the guest's port when it is the last.
type serialSession struct {
	*serial.Session

	serials *serials
	machine string
	open    *openPort
}

// Close ends the session.
func (s *serialSession) Close() error {
	s.serials.mu.Lock()
	defer s.serials.mu.Unlock()
	_ = s.Session.Close()
	if s.open.port.Idle() {
		s.serials.dropLocked(s.machine, s.open)
	}
	return nil
}
