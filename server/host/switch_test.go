package host_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/host"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
)

func day() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestSwitchSurvivesARestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	want := false
	for _, set := range []bool{true, true, false, false, true} {
		st, err := bolt.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		sw, err := host.OpenSwitch(t.Context(), st)
		if err != nil || sw.Disabled() != want {
			t.Errorf("disabled after a restart: %v, want %v, %v", sw.Disabled(), want, err)
		}
		if err := sw.Set(t.Context(), set); err != nil || sw.Disabled() != set {
			t.Errorf("set to %v: %v, %v", set, sw.Disabled(), err)
		}
		want = set
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		if err := sw.Set(t.Context(), !set); err == nil || sw.Disabled() != set {
			t.Errorf("without a store: %v, %v", sw.Disabled(), err)
		}
	}
}

func TestSetDisabledStateIsPublished(t *testing.T) {
	t.Parallel()
	s, w := newService(t)
	set := func(disable bool) {
		t.Helper()
		if _, err := s.SetDisabledState(t.Context(), &hypervisorv1.SetDisabledStateRequest{Disable: disable}); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	state, sub := s.Feed.Subscribe(0)
	defer sub.Close()
	if h := state.GetHost(); !h.GetDisabled() || h.GetNumCpus() != 4 || h.GetArchitectureType() != hypervisorv1.ArchitectureType_ARCHITECTURE_TYPE_AMD64 {
		t.Errorf("host: %v", state.GetHost())
	}
	set(true)
	if u := sub.Take(); u != nil {
		t.Errorf("published though nothing changed: %v", u)
	}
	// The figures are not known for a while: what is known of them stays.
	w.fail = errors.New("no meter")
	set(false)
	if h := sub.Take().GetHost(); h == nil || h.GetDisabled() || h.GetNumCpus() != 4 {
		t.Errorf("host: %v", h)
	}
}

func TestRunPublishesUntilItsEnd(t *testing.T) {
	t.Parallel()
	s, w := newService(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	_, sub := s.Feed.Subscribe(0)
	defer sub.Close()
	go func() { done <- s.Run(ctx) }()
	<-sub.Ready()
	if h := sub.Take().GetHost(); h.GetAvailableMemoryInMib() != 1024 || h.GetDisabled() {
		t.Errorf("host: %v", h)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if w.fail != nil {
		t.Error(w.fail)
	}
}
