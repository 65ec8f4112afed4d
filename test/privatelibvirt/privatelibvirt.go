// Package privatelibvirt runs a libvirt of one's own, for tests and the demo: it shares no machine, network or file with the host's.
//
// It needs root but no systemd. virtlogd, libvirtd and all they start live in their own PID, mount and network namespaces below a
// small supervisor (cmd/libvirt-supervisor). Only the Unix socket reaches out. Files and sockets that both sides use, such as disks
// and serial ports, work at any path except below /etc/libvirt, /run/libvirt, /var/lib/libvirt, /var/log/libvirt and /var/cache/libvirt,
// which are private. KVM is hidden unless asked for, so guests are emulated.
//
// Nothing outlives the process that called Start, however it ends: the supervisor sees its pipe close, and the end of a PID
// namespace's first process ends every other one. Empty /run/libvirt-like folders that the mounts need are left on the host.
package privatelibvirt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options say how an instance differs from a plain one. The zero value is good for tests.
type Options struct {
	// Dir holds the instance's state and is kept at the end; empty = a temporary directory that is removed.
	Dir string
	// KVM lets guests use /dev/kvm.
	KVM bool
	// CgroupControllers are those libvirt may put guests under, like cpu and cpuacct; none = no limits on guests. With them, the
	// emptied cgroups of guests that still run at Stop are left on the host.
	CgroupControllers []string
}

// Instance is a running private libvirt.
type Instance struct {
	// Socket is libvirtd's Unix socket, as seen from outside. The URI is qemu+unix:///system?socket=SOCKET.
	Socket string
	// Dir holds the instance's state: etc, run, lib and log are libvirt's folders.
	Dir string
	// PID is the supervisor's process: nsenter -t PID -a enters the instance.
	PID int

	mu         sync.Mutex // held for one verb and its answer
	supervisor *exec.Cmd
	verbs      io.WriteCloser
	answers    *bufio.Reader
	stderr     *os.File
	temporary  bool
	stopOnce   sync.Once
	stopErr    error
}

// New starts an instance that is stopped when the test ends.
func New(tb testing.TB, opts Options) *Instance {
	tb.Helper()
	inst, err := Start(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := inst.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return inst
}

// Start starts an instance and returns when libvirtd answers. ctx bounds the start only; call Stop at the end.
func Start(ctx context.Context, opts Options) (*Instance, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("private libvirt: needs root for its namespaces; run as root")
	}
	program, err := buildSupervisor(ctx)
	if err != nil {
		return nil, fmt.Errorf("private libvirt: %w", err)
	}
	inst, err := prepare(opts)
	if err != nil {
		return nil, fmt.Errorf("private libvirt: %w", err)
	}
	if err := inst.launch(ctx, program, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("private libvirt: %w", err), inst.removeTemporary())
	}
	return inst, nil
}

// prepare makes the instance's directory and configuration.
func prepare(opts Options) (*Instance, error) {
	inst := &Instance{Dir: opts.Dir, temporary: opts.Dir == ""}
	if inst.temporary {
		// Short, because socket paths below it must fit in 107 bytes.
		dir, err := os.MkdirTemp("", "libvirt-")
		if err != nil {
			return nil, err
		}
		inst.Dir = dir
	}
	inst.Socket = filepath.Join(inst.Dir, "run", "libvirt-sock")
	if err := writeConfig(inst.Dir, opts); err != nil {
		return nil, errors.Join(err, inst.removeTemporary())
	}
	return inst, nil
}

func (inst *Instance) launch(ctx context.Context, program string, opts Options) error {
	cache, err := cacheDir("libvirt-capabilities")
	if err != nil {
		return err
	}
	inst.stderr, err = os.Create(filepath.Join(inst.Dir, "log", "supervisor.err"))
	if err != nil {
		return err
	}
	//nolint:forbidigo // needs new namespaces and pipes in both directions, which procexec does not offer
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, "-dir", inst.Dir, "-cache", cache,
		"-kvm="+strconv.FormatBool(opts.KVM), "-remove="+strconv.FormatBool(inst.temporary))
	cmd.Stderr = inst.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Setpgid:    true, // a terminal's interrupt reaches the caller, which then stops us in order
	}
	verbs, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, inst.stderr.Close())
	}
	inst.supervisor, inst.PID = cmd, cmd.Process.Pid
	inst.verbs, inst.answers = verbs, bufio.NewReader(answers)
	if err := inst.answer(ctx); err != nil {
		return errors.Join(err, inst.Stop())
	}
	return nil
}

// Stop ends libvirt and every guest and network of the instance, and removes its directory if it was temporary.
// It returns when all are gone. More calls do nothing.
func (inst *Instance) Stop() error {
	inst.stopOnce.Do(func() {
		_ = inst.verbs.Close() // the end of its input is the supervisor's order to stop
		timer := time.AfterFunc(30*time.Second, func() { _ = inst.supervisor.Process.Kill() })
		defer timer.Stop()
		if err := inst.supervisor.Wait(); err != nil {
			inst.stopErr = fmt.Errorf("private libvirt in %s: supervisor: %w", inst.Dir, err)
		}
		inst.stopErr = errors.Join(inst.stopErr, inst.stderr.Close(), inst.removeTemporary())
	})
	return inst.stopErr
}

// StopLibvirtd ends libvirtd alone; guests and networks run on.
func (inst *Instance) StopLibvirtd(ctx context.Context) error { return inst.order(ctx, "stop") }

// StartLibvirtd starts libvirtd again and returns when it answers.
func (inst *Instance) StartLibvirtd(ctx context.Context) error { return inst.order(ctx, "start") }

// RestartLibvirtd is StopLibvirtd and StartLibvirtd.
func (inst *Instance) RestartLibvirtd(ctx context.Context) error {
	if err := inst.StopLibvirtd(ctx); err != nil {
		return err
	}
	return inst.StartLibvirtd(ctx)
}

func (inst *Instance) order(ctx context.Context, verb string) error {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	if _, err := io.WriteString(inst.verbs, verb+"\n"); err != nil {
		return fmt.Errorf("private libvirt: %s libvirtd: %w", verb, err)
	}
	if err := inst.answer(ctx); err != nil {
		return fmt.Errorf("private libvirt: %s libvirtd: %w", verb, err)
	}
	return nil
}

// answer waits for the supervisor's next line. If ctx ends first the supervisor is killed: its answers would be out of step.
func (inst *Instance) answer(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = inst.supervisor.Process.Kill() })
	defer stop()
	line, err := inst.answers.ReadString('\n')
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("supervisor ended (see %s): %w", inst.stderr.Name(), err)
	}
	if text, failed := strings.CutPrefix(strings.TrimSpace(line), "error: "); failed {
		return errors.New(text)
	}
	return nil
}

func (inst *Instance) removeTemporary() error {
	if !inst.temporary {
		return nil
	}
	return os.RemoveAll(inst.Dir)
}
