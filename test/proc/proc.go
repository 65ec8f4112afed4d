// Package proc runs the project's programs for the demo, the benchmarks and tests of what the shipped binaries do.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is a running program.
type Program struct {
	cmd    *exec.Cmd
	output *tail
	done   chan struct{}
	err    error
}

// Start starts a program. What it says goes to out too, if that is not nil; its end is kept for errors. The program ends with this process.
func Start(out io.Writer, env []string, path string, args ...string) (*Program, error) {
	p := &Program{cmd: exec.Command(path, args...), output: &tail{also: out}, done: make(chan struct{})} //nolint:noctx // Stop ends it, gently first
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the process's id.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Output returns the end of what the program said.
func (p *Program) Output() string { return p.output.String() }

// Stop asks the program to end and waits. One that does not end in half a minute is killed, which is an error.
func (p *Program) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w\n%s", p.cmd.Path, p.err, p.Output())
		}
		return nil
	case <-time.After(30 * time.Second):
		p.Kill()
		return fmt.Errorf("%s did not end when asked to\n%s", p.cmd.Path, p.Output())
	}
}

// Kill ends the program at once, as a crash does, and waits.
func (p *Program) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// File waits until the program has written a file and returns its text.
func (p *Program) File(ctx context.Context, path string) (string, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if raw, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(raw)), nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return "", fmt.Errorf("%s ended: %w\n%s", p.cmd.Path, p.err, p.Output())
		case <-ctx.Done():
			return "", fmt.Errorf("%s: %w while waiting for %s\n%s", p.cmd.Path, ctx.Err(), path, p.Output())
		}
	}
}

// Run runs a program to its end and returns what it printed. Its error output is part of the error.
func Run(ctx context.Context, env []string, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", path, strings.Join(args, " "), err, out.String(), problem.String())
	}
	return out.String(), err
}

// tail keeps the last bytes written to it.
type tail struct {
	mu   sync.Mutex
	also io.Writer
	last []byte
}

const tailSize = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, b...)
	t.last = t.last[max(0, len(t.last)-tailSize):]
	if t.also != nil {
		return t.also.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.last)
}
