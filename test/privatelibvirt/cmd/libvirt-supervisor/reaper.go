package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// reaper collects the exit of every child, also of those it inherited, and tells those who wait for one they started.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{waiting: make(map[int]chan syscall.WaitStatus)}
	exits := make(chan os.Signal, 1)
	signal.Notify(exits, syscall.SIGCHLD)
	go func() {
		for range exits {
			r.collect()
		}
	}()
	return r
}

// collect reaps until no child is dead. One signal may stand for many exits.
func (r *reaper) collect() {
	for {
		r.mu.Lock()
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if exit := r.waiting[pid]; pid > 0 && exit != nil {
			delete(r.waiting, pid)
			exit <- ws
		}
		r.mu.Unlock()
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// start runs a program with its output in the file log. The channel gets the program's status when it ends.
func (r *reaper) start(program, log string, args ...string) (pid int, exit <-chan syscall.WaitStatus, err error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = out.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = null.Close() }()

	ended := make(chan syscall.WaitStatus, 1)
	r.mu.Lock() // the exit of a program that ends at once is collected after it is registered
	defer r.mu.Unlock()
	pid, err = syscall.ForkExec(program, append([]string{program}, args...), &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{null.Fd(), out.Fd(), out.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", program, err)
	}
	r.waiting[pid] = ended
	return pid, ended, nil
}

// killEverything ends every other process of the namespace and returns when none is left.
func (r *reaper) killEverything() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 200 {
		// For process 1, pid -1 means all others of its PID namespace.
		if err := syscall.Kill(-1, syscall.SIGKILL); errors.Is(err, syscall.ESRCH) {
			return
		}
		r.collect()
		<-tick.C
	}
}
