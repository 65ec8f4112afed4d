package fakepeer

import (
	"bytes"
	"encoding/gob"
	"io"
	"net"
	"slices"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// request has the fields of the requests that are not volumes.
type request struct {
	AccessToken []byte
	Enable      bool
	IpAddress   net.IP
}

func (s *session) handlers() map[string]func() error {
	return map[string]func() error{
		"GetVmInfo": s.info, "GetVmVolume": s.volume, "GetVmUserData": s.userData, "PrepareVmForMigration": s.prepare,
		"StopVm":               func() error { return s.simple(s.stop) },
		"StartVm":              func() error { return s.simple(s.start) },
		"DestroyVm":            func() error { return s.simple(s.destroy) },
		"DiscardVmAccessToken": func() error { return s.simple(func() string { return "" }) },
	}
}

// missing is the error of a VM that is not here. The caller holds the lock.
func (s *session) missing(ip net.IP) string {
	if s.peer.gone || !ip.Equal(s.peer.vm.Address.IpAddress) {
		return "no VM with IP address: " + ip.String() + " found"
	}
	return ""
}

// denied is the error of a caller without a right to the VM. The caller holds the lock.
func (s *session) denied(ip net.IP, token []byte) string {
	if text := s.missing(ip); text != "" {
		return text
	}
	if !s.power(s.call.Method) && (len(token) == 0 || !bytes.Equal(token, s.peer.opts.Token)) {
		return "no access to resource"
	}
	return ""
}

func (s *session) info() error {
	var r request
	if err := s.read(&r); err != nil {
		return err
	}
	var vm srpctest.VmInfo
	return s.reply(func() string {
		s.peer.mu.Lock()
		defer s.peer.mu.Unlock()
		text := s.missing(r.IpAddress)
		if text == "" {
			if s.peer.lingers--; s.peer.vm.State == Stopping && s.peer.lingers < 0 {
				s.peer.vm.State = Stopped
			}
			vm = s.peer.vm
			vm.Volumes = slices.Clone(vm.Volumes)
		}
		return text
	}, func(text string) any { return &srpctest.GetVmInfoReply{VmInfo: vm, Error: text} })
}

// simple serves a method whose reply says nothing but whether it was done.
func (s *session) simple(do func() string) error {
	var r request
	if err := s.read(&r); err != nil {
		return err
	}
	return s.reply(func() string {
		s.peer.mu.Lock()
		defer s.peer.mu.Unlock()
		if text := s.denied(r.IpAddress, r.AccessToken); text != "" {
			return text
		}
		return do()
	}, func(text string) any { return &srpctest.ErrorReply{Error: text} })
}

func (s *session) stop() string {
	if s.peer.vm.State != Running {
		return "VM is not running"
	}
	if s.peer.opts.Stopping != nil {
		s.peer.opts.Stopping(s.peer.opts.Volumes)
	}
	s.peer.vm.State = Stopped
	if s.fault.Kind == Linger {
		s.peer.vm.State, s.peer.lingers = Stopping, 2
	}
	return ""
}

func (s *session) start() string {
	if s.peer.vm.State != Stopped {
		return "VM is not stopped"
	}
	s.peer.vm.State = Running
	return ""
}

func (s *session) destroy() string {
	if s.peer.vm.State != Migrating {
		s.peer.problems = append(s.peer.problems, "a VM is destroyed that is not out of service")
	}
	s.peer.gone = true
	return ""
}

// prepare takes the VM out of service, or puts it back. Without access to the VM it does nothing, and says that it has.
func (s *session) prepare() error {
	var r request
	if err := s.read(&r); err != nil {
		return err
	}
	s.note(func(c *Call) { c.Enable = r.Enable })
	return s.reply(func() string {
		s.peer.mu.Lock()
		defer s.peer.mu.Unlock()
		vm := &s.peer.vm
		switch {
		case s.peer.gone:
			s.peer.problems = append(s.peer.problems, "PrepareVmForMigration of a VM that was destroyed")
			return ""
		case s.missing(r.IpAddress) != "":
			return s.missing(r.IpAddress)
		case !bytes.Equal(r.AccessToken, s.peer.opts.Token):
			return ""
		case r.Enable && (vm.State != Stopped || vm.Uncommitted):
			return "VM is not stopped"
		case r.Enable:
			vm.State, vm.Uncommitted = Migrating, true
		case vm.State != Migrating:
			return "VM is not migrating"
		default:
			vm.State, vm.Uncommitted = Stopped, false
		}
		return ""
	}, func(text string) any { return &srpctest.ErrorReply{Error: text} })
}

// userData has no status line.
func (s *session) userData() error {
	var r request
	if err := s.read(&r); err != nil {
		return err
	}
	if err := s.broken(); err != nil {
		return err
	}
	s.note(func(c *Call) {
		if c.Err = s.denied(r.IpAddress, r.AccessToken); s.fault.Kind == Fail {
			c.Err = s.fault.Text
		}
	})
	answer := struct {
		Error  string
		Length uint64
	}{s.call.Err, uint64(len(s.peer.opts.UserData))}
	if s.call.Err != "" {
		answer.Length = 0
	}
	if err := gob.NewEncoder(s.conn).Encode(&answer); err != nil || answer.Length == 0 {
		return err
	}
	data := s.peer.opts.UserData
	if s.fault.Kind == Tear {
		_, _ = s.conn.Write(data[:len(data)/2]) // it ends anyway
		return errEnd
	}
	_, err := io.Copy(s.conn, bytes.NewReader(data))
	return err
}
