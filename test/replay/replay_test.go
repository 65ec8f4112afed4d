package replay_test

import (
	"context"
	"os"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// TestMain lets the server's child process that opens file systems be this program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == guestfs.Argument {
		os.Exit(guestfs.Main(context.Background(), os.Stdin, os.Stdout)) //nolint:forbidigo // the root of the child's work
	}
	os.Exit(m.Run())
}

// step is a step of a session.
type step func(t *testing.T, w *world)

// session is a sequence of recordings on one server.
type session struct {
	config func(*config.Config)
	// pair says that there is a second server, which may take VMs from the first.
	pair  bool
	steps []step
}

// extras are what a recording needs beside its bytes.
type extras struct {
	// during is done before the nth message of a type ("Update#2").
	during map[string]func(context.Context, *player)
	// pipe hears the bytes of a pipe; nil = they are those that were recorded.
	pipe func(*conn, srpctest.Step) error
	// ask changes requests; nil = nothing.
	ask func(kind string, request map[string]any)
	// after looks at what has come of it.
	after func(context.Context, *player)
	// ours says which connections our own servers make.
	ours func(srpctest.ScriptConn) bool
	// updates says that updates are compared by what a client knows after them, leaving apart what is in the list.
	updates bool
	apart   []string
	// skip says which steps are not played.
	skip func(srpctest.Step) bool
	// leaves says that the client went away while the server still spoke.
	leaves bool
}

// play plays recordings, one after the other.
func play(names ...string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		for _, name := range names {
			outcome := "failed"
			t.Run(name, func(t *testing.T) { outcome = judge(t, name, w.learning(t, name, extrasOf(name))) })
			w.suite.outcomes.note(t, name, outcome)
		}
	}
}

// learning plays a recording; what the world learns by it, it keeps.
func (w *world) learning(t *testing.T, name string, extras extras) []mismatch {
	t.Helper()
	sub := w.in(t)
	defer func() { w.texts = sub.texts }()
	return sub.play(name, extras)
}

// given plays recordings that bring about what the next ones presume.
func given(names ...string) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		for _, name := range names {
			w.learning(t, name, extrasOf(name))
		}
	}
}

// changed plays a recording whose requests are changed, to bring about what the next ones presume.
func changed(name string, ask func(kind string, request map[string]any)) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		for _, m := range w.learning(t, name, extras{ask: ask}) {
			t.Errorf("%s, changed: %v", name, m)
		}
	}
}

// do brings about what the next recordings presume and no recording does.
func do(f func(ctx context.Context, w *world)) step {
	return func(t *testing.T, w *world) {
		t.Helper()
		sub := w.in(t)
		f(t.Context(), sub)
		w.texts = sub.texts
	}
}

func TestReplay(t *testing.T) { //nolint:tparallel // the sessions are, and have ended when the recordings are counted
	t.Parallel()
	s := newSuite(t)
	t.Run("sessions", func(t *testing.T) {
		for name, session := range sessions() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, s, session.config)
				if session.pair {
					w.second = newSecond(t, w)
				}
				for _, step := range session.steps {
					step(t, w)
				}
			})
		}
	})
	s.outcomes.account(t, s.dir)
}
