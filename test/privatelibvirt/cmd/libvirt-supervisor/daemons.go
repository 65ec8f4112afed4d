package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// The daemons, by program name.
const (
	libvirtd = "libvirtd"
	virtlogd = "virtlogd"
)

// daemons are libvirt's services. Only one goroutine uses them.
type daemons struct {
	reaper  *reaper
	dir     string
	running map[string]process
}

type process struct {
	pid  int
	exit <-chan syscall.WaitStatus
}

func (d *daemons) startAll() error {
	if err := d.start(virtlogd); err != nil {
		return err
	}
	return d.startLibvirtd()
}

// startLibvirtd returns when libvirtd answers on its socket.
func (d *daemons) startLibvirtd() error {
	if err := d.start(libvirtd); err != nil {
		return err
	}
	return d.waitForSocket("/run/libvirt/libvirt-sock", 30*time.Second)
}

func (d *daemons) start(name string) error {
	if _, ok := d.running[name]; ok {
		return fmt.Errorf("%s is already running", name)
	}
	// Debian keeps both in /usr/sbin, which is not in every PATH.
	program, err := exec.LookPath(name)
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return fmt.Errorf("%s is not installed (scripts/install-deps.sh installs it): %w", name, err)
	}
	pid, exit, err := d.reaper.start(program, filepath.Join(d.dir, "log", name+".out"),
		"-f", "/etc/libvirt/"+name+".conf", "-p", "/run/libvirt/"+name+".pid")
	if err != nil {
		return err
	}
	if d.running == nil {
		d.running = make(map[string]process)
	}
	d.running[name] = process{pid, exit}
	return nil
}

func (d *daemons) waitForSocket(path string, limit time.Duration) error {
	p := d.running[libvirtd]
	ctx, cancel := context.WithTimeout(context.Background(), limit) //nolint:forbidigo // nobody waits for process 1 but its pipe
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case ws := <-p.exit:
			delete(d.running, libvirtd)
			return fmt.Errorf("libvirtd ended with status %d; see %s", ws.ExitStatus(), filepath.Join(d.dir, "log"))
		case <-ctx.Done():
			return fmt.Errorf("libvirtd does not answer on %s: %w", path, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// stop ends a daemon and returns when it has gone: asked at first, by force at the limit. One that does not run is no error.
func (d *daemons) stop(name string, limit time.Duration) error {
	p, ok := d.running[name]
	if !ok {
		return nil
	}
	defer delete(d.running, name)
	if err := syscall.Kill(p.pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	select {
	case <-p.exit:
		return nil
	case <-time.After(limit):
	}
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	<-p.exit
	return fmt.Errorf("%s did not stop within %s and was killed", name, limit)
}

// stopAll ends the daemons in order. What does not stop is killed with everything else.
func (d *daemons) stopAll(limit time.Duration) {
	_ = d.stop(libvirtd, limit)
	_ = d.stop(virtlogd, limit)
}
