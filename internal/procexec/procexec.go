// Package procexec is the one place that runs other programs: never through a shell, always under a context, with bounded output,
// the program's complaint in the error, and secrets kept out of logs and errors.
//
// A secret belongs on standard input or in the environment, not in an argument: arguments are visible to every user of the host.
package procexec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// DefaultOutputLimit is how many bytes of output are kept where a Command does not say.
const DefaultOutputLimit = 1 << 20

// killDelay is how long a cancelled program may take to obey SIGTERM before it is killed.
const killDelay = 2 * time.Second

// Command says what to run. Only Program is required.
type Command struct {
	// Program is a path, or a name that is looked up in PATH.
	Program string
	// Args are options and words chosen by this project. Operands are words that came from elsewhere: they follow a "--", so that
	// one that begins with "-" is no option. Leave Operands empty for programs that do not know "--".
	Args, Operands []string
	// Env is added to the environment, as KEY=VALUE.
	Env []string
	// Dir is the working directory; empty = the caller's.
	Dir string
	// Stdin is read by the program; nil = nothing.
	Stdin io.Reader
	// Stdout gets the program's output as it comes; nil = it is kept in the Result.
	Stdout io.Writer
	// OutputLimit is how many bytes of output, and of complaints, are kept; the rest is dropped. 0 = DefaultOutputLimit.
	OutputLimit int
	// Secrets are replaced by stars wherever the command, its output or its complaints get into a log or an error.
	Secrets []string
}

// Result is what a program that ended well said.
type Result struct {
	// Stdout is the output, at most OutputLimit bytes of it. Truncated says that there was more.
	Stdout    []byte
	Truncated bool
}

// ExitError is in the chain of the error for a program that ran and failed.
type ExitError struct {
	// Status is the exit status, or -1 if a signal ended the program.
	Status int
	// Stderr is the end of what it complained, without secrets.
	Stderr string
}

// Error says the status and the complaint.
func (e *ExitError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return fmt.Sprintf("exit status %d: %s", e.Status, e.Stderr)
}

// Runner runs programs. The zero value logs nothing.
type Runner struct {
	// Log gets a line at level debug for each program that ended.
	Log *slog.Logger
}

// Run runs a program to its end. Errors are faults: FailedPrecondition if it is not installed, Canceled or DeadlineExceeded if
// ctx ended it (with its whole process group), Internal with an *ExitError in the chain if it failed.
func (r Runner) Run(ctx context.Context, c Command) (Result, error) {
	hide := newRedactor(c.Secrets)
	program, err := exec.LookPath(c.Program)
	if err != nil {
		return Result{}, fault.As(fault.FailedPrecondition, err, "program %q cannot be run; install it", c.Program)
	}
	limit := c.OutputLimit
	if limit <= 0 {
		limit = DefaultOutputLimit
	}
	stdout, stderr := &head{limit: limit}, &tail{limit: limit}
	cmd := c.build(ctx, program, stdout, stderr)

	begin := time.Now()
	err = cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the program left behind
	}
	if r.Log != nil {
		r.Log.LogAttrs(ctx, slog.LevelDebug, "program ended", slog.String("command", hide.Replace(strings.Join(cmd.Args, " "))),
			slog.Duration("took", time.Since(begin)), slog.Int("status", cmd.ProcessState.ExitCode()))
	}
	if err != nil {
		return Result{}, c.classify(ctx, err, hide.Replace(strings.TrimSpace(stderr.String())), hide)
	}
	return Result{Stdout: stdout.buf.Bytes(), Truncated: stdout.dropped}, nil
}

func (c Command) build(ctx context.Context, program string, stdout *head, stderr *tail) *exec.Cmd {
	args := c.Args
	if len(c.Operands) > 0 {
		args = append(append(append([]string{}, c.Args...), "--"), c.Operands...)
	}
	cmd := exec.CommandContext(ctx, program, args...) //nolint:forbidigo // this is the place that runs programs
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, c.Stdin, c.Stdout, stderr
	if c.Stdout == nil {
		cmd.Stdout = stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	// Also bounds the wait for children that hold the output open after the program's end.
	cmd.WaitDelay = killDelay
	return cmd
}

func (c Command) classify(ctx context.Context, err error, complaint string, hide *strings.Replacer) error {
	name := hide.Replace(c.Program)
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fault.As(fault.CodeOf(ctxErr), ctxErr, "program %q was stopped", name)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fault.As(fault.Internal, &ExitError{Status: exit.ExitCode(), Stderr: complaint}, "program %q failed", name)
	}
	return fault.As(fault.Internal, errors.New(hide.Replace(err.Error())), "program %q could not be run to its end", name)
}

// newRedactor replaces each secret by stars. Empty ones are left out: they would match everywhere.
func newRedactor(secrets []string) *strings.Replacer {
	var pairs []string
	for _, s := range secrets {
		if s != "" {
			pairs = append(pairs, s, "***")
		}
	}
	return strings.NewReplacer(pairs...)
}

// head keeps the first limit bytes written to it.
type head struct {
	buf     bytes.Buffer
	limit   int
	dropped bool
}

func (h *head) Write(p []byte) (int, error) {
	room := h.limit - h.buf.Len()
	if len(p) > room {
		h.dropped = true
		h.buf.Write(p[:room])
		return len(p), nil
	}
	return h.buf.Write(p)
}

// tail keeps the last limit bytes written to it: what a program complains last is why it failed.
type tail struct {
	buf   []byte
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.limit {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.limit:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.buf[max(0, len(t.buf)-t.limit):]) }
