package guestfs

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// Argument is the word, after the name of a program, with which it calls Main.
const Argument = "guest-file-systems"

// childMark is set for children: a program that does not know Argument, and does what it always does, must not start more of its kind.
const childMark = "HYPERPLANE_GUEST_FILE_SYSTEMS"

// Self is this very program, also if its file has been replaced since it was started.
func Self() Command {
	return Command{Program: fmt.Sprintf("/proc/%d/exe", os.Getpid()), Args: []string{Argument}}
}

// run has a child do what is asked, and calls on for each of its replies.
func (s *Service) run(ctx context.Context, req request, on func(reply) error) error {
	if os.Getenv(childMark) != "" {
		return fault.New(fault.Internal, "%s does not call %s when it is started with it", s.Self.Program, Argument)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stdin, held, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close() //nolint:errcheck // the child has its own
	defer held.Close()  //nolint:errcheck // the child ends when the last copy is closed
	answers, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Programs.Run(ctx, s.command(stdin, out))
		ended <- err
		_ = out.CloseWithError(io.EOF) // never fails
	}()
	go func() { _ = gob.NewEncoder(held).Encode(req) }() // a child that does not read it has ended with an error
	result := collect(answers, on)
	if result != nil {
		cancel()
	}
	_, _ = io.Copy(io.Discard, answers) // so that a child that is ending can not block
	err = <-ended
	switch {
	case result == nil && err == nil:
		return nil
	case ctx.Err() != nil && !isReply(result):
		return errors.Join(context.Cause(ctx), err)
	case isReply(result):
		return result
	default:
		return errors.Join(err, result)
	}
}

func (s *Service) command(stdin io.Reader, stdout io.Writer) procexec.Command {
	return procexec.Command{
		// unshare(1) makes the child the first process of a namespace: with it, everything in there ends.
		Program: "unshare", Args: []string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"},
		Operands: append([]string{s.Self.Program}, s.Self.Args...), Stdin: stdin, Stdout: stdout, OutputLimit: 64 << 10,
		Env: []string{childMark + "=1"},
	}
}

// replyError is an error that the child reported, or that on returned: the reason of all that follows from it.
type replyError struct{ error }

func (e replyError) Unwrap() error { return e.error }

func isReply(err error) bool {
	_, ok := errors.AsType[replyError](err)
	return ok
}

// collect reads replies until the last one.
func collect(r io.Reader, on func(reply) error) error {
	d := gob.NewDecoder(r)
	for {
		var m reply
		if err := d.Decode(&m); err != nil {
			return fault.As(fault.Internal, err, "the program that works on guests' file systems ended early")
		}
		if m.Fail != nil {
			return replyError{fault.New(m.Fail.Code, "%s", m.Fail.Text)}
		}
		if on != nil {
			if err := on(m); err != nil {
				return replyError{err}
			}
		}
		if m.Done {
			return nil
		}
	}
}

// lines writes each line of text as a reply.
type lines struct {
	send func(reply) error
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		if err := l.send(reply{Log: string(l.rest[:i])}); err != nil {
			return 0, err
		}
		l.rest = l.rest[i+1:]
	}
}
