package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

// step is a command and what must come of it.
type step struct {
	// say is user, program and arguments; {dir} is the directory of the run. A first word "commit:" or "abandon:" is the answer to the command's question.
	say string
	// says is what the command prints, in part. A leading ! says that the command fails with this.
	says string
	// look is a command of hyperctl at the host's admin socket, see what it prints then, in part, or, with a leading !, does not.
	look, see string
}

// do does the steps with a host. to are the flags that name it or the fleet manager, sock is the admin socket asked by look.
func (l *lab) do(ctx context.Context, to, sock string, steps []step) error {
	for _, s := range steps {
		began := time.Now()
		problem := l.try(ctx, to, sock, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.done++
		mark := "ok  "
		if problem != "" {
			l.failed++
			mark = "FAIL"
		}
		if problem != "" {
			problem = "     " + strings.ReplaceAll(strings.TrimSpace(problem), "\n", "\n     ") + "\n"
		}
		if _, err := fmt.Fprintf(l.out, "%s %6d ms  %s\n%s", mark, time.Since(began).Milliseconds(), s.say, problem); err != nil {
			return err
		}
	}
	return nil
}

// try does one step and returns what is wrong.
func (l *lab) try(ctx context.Context, to, sock string, s step) string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	say, answer := s.say, ""
	if before, after, asked := strings.Cut(say, ": "); asked {
		answer, say = before, after
	}
	words := strings.Fields(strings.ReplaceAll(say, "{dir}", l.dir))
	args := append([]string{filepath.Join(l.bin, words[1]), "-certDirectory", l.path(words[0])}, strings.Fields(to)...)
	// The shell only gives the answer, if there is one.
	out, err := proc.Run(ctx, nil, "sh", append([]string{"-c", `printf '%s\n' "` + answer + `" | "$0" "$@" 2>&1`}, append(args, words[2:]...)...)...)
	if ctx.Err() != nil {
		return "it hangs"
	}
	says, fails := strings.CutPrefix(strings.ReplaceAll(s.says, "{dir}", l.dir), "!")
	switch {
	case err != nil && !fails:
		return err.Error()
	case fails && err == nil:
		return "it succeeds and says " + out
	case !strings.Contains(out, says):
		return fmt.Sprintf("it says %q, not %q", out, says)
	}
	if s.look == "" {
		return ""
	}
	seen, err := proc.Run(ctx, nil, "bin/hyperctl", append([]string{"--server", "unix://" + sock}, strings.Fields(s.look)...)...)
	see, no := strings.CutPrefix(s.see, "!")
	if err != nil || strings.Contains(seen, see) == no {
		return fmt.Sprintf("afterwards %q (%v) has not %q", seen, err, s.see)
	}
	return ""
}
