package procexec_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "cat", Stdin: strings.NewReader("hello")})
	if err != nil || string(res.Stdout) != "hello" || res.Truncated {
		t.Fatalf("got %q, truncated %v, %v", res.Stdout, res.Truncated, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{
		Program: "cat", Stdin: strings.NewReader(strings.Repeat("x", 1<<20)), OutputLimit: 1000,
	})
	if err != nil || len(res.Stdout) != 1000 || !res.Truncated {
		t.Fatalf("got %d bytes, truncated %v, %v", len(res.Stdout), res.Truncated, err)
	}
}

func TestStdoutWriter(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "cat", Stdin: strings.NewReader("hello"), Stdout: &got})
	if err != nil || got.String() != "hello" || len(res.Stdout) != 0 {
		t.Fatalf("writer got %q, result %q, %v", &got, res.Stdout, err)
	}
}

func TestOperandsAreNoOptions(t *testing.T) {
	t.Parallel()
	name := "-n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "cat", Operands: []string{name}, Dir: dir})
	if err != nil || string(res.Stdout) != "text" {
		t.Fatalf("got %q, %v", res.Stdout, err)
	}
}

func TestNoShell(t *testing.T) {
	t.Parallel()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "printf", Args: []string{"%s", "$HOME; `id`"}})
	if err != nil || string(res.Stdout) != "$HOME; `id`" {
		t.Fatalf("got %q, %v", res.Stdout, err)
	}
}

func TestEnvAndDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{
		Program: "sh", Args: []string{"-c", `printf '%s %s' "$WORD" "$PWD"`}, Env: []string{"WORD=w"}, Dir: dir,
	})
	if err != nil || string(res.Stdout) != "w "+dir {
		t.Fatalf("got %q, %v", res.Stdout, err)
	}
}

func TestNotInstalled(t *testing.T) {
	t.Parallel()
	_, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "no-such-program-anywhere"})
	if !fault.Is(err, fault.FailedPrecondition) {
		t.Fatalf("got %v", err)
	}
}

func TestFailureAndSecrets(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := procexec.Runner{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	_, err := r.Run(t.Context(), procexec.Command{
		Program: "sh", Args: []string{"-c", "echo bad password hunter2 >&2; exit 7"}, Secrets: []string{"hunter2", ""},
	})
	exit, ok := errors.AsType[*procexec.ExitError](err)
	if !ok || exit.Status != 7 || exit.Stderr != "bad password ***" || !fault.Is(err, fault.Internal) {
		t.Fatalf("got %v", err)
	}
	if text := err.Error() + log.String(); strings.Contains(text, "hunter2") {
		t.Fatalf("secret in %q", text)
	}
	if !strings.Contains(log.String(), "program ended") {
		t.Fatalf("log %q", &log)
	}
}

func TestStderrKeepsTheEnd(t *testing.T) {
	t.Parallel()
	_, err := procexec.Runner{}.Run(t.Context(), procexec.Command{
		Program: "sh", Args: []string{"-c", "seq 10000 >&2; echo the reason >&2; exit 1"}, OutputLimit: 20,
	})
	exit, ok := errors.AsType[*procexec.ExitError](err)
	if !ok || !strings.HasSuffix(exit.Stderr, "the reason") || len(exit.Stderr) > 20 {
		t.Fatalf("got %v", err)
	}
}

func TestCancelKillsTheGroup(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		// The child ignores the polite signal; the grandchild does not belong to Run directly.
		_, err := procexec.Runner{}.Run(ctx, procexec.Command{Program: "sh", Args: []string{
			"-c", `trap "" TERM; sleep 1000 & echo $! >"$0.new"; mv "$0.new" "$0"; wait; while :; do sleep 1; done`, pidFile,
		}})
		done <- err
	}()
	pid := readPID(t, pidFile)
	cancel()
	if err := <-done; !fault.Is(err, fault.Canceled) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	await(t, func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || isZombie(pid) })
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := procexec.Runner{}.Run(ctx, procexec.Command{Program: "sleep", Args: []string{"1000"}})
	if !fault.Is(err, fault.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func readPID(t *testing.T, file string) int {
	t.Helper()
	var pid int
	await(t, func() bool {
		text, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}

func isZombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("timed out")
		}
	}
}
