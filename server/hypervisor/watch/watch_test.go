package watch_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/watch"
)

func event(id string, state hypervisor.State) hypervisor.Event {
	return hypervisor.Event{UUID: id, State: state, At: time.Unix(1, 0)}
}

func receive(t *testing.T, events <-chan hypervisor.Event) hypervisor.Event {
	t.Helper()
	select {
	case ev, ok := <-events:
		if !ok {
			t.Fatal("the channel is closed")
		}
		return ev
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return hypervisor.Event{}
	}
}

func expectClosed(t *testing.T, events <-chan hypervisor.Event) {
	t.Helper()
	select {
	case ev, ok := <-events:
		if ok {
			t.Fatalf("event %v instead of the end", ev)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the channel is not closed")
	}
}

func TestSubscribeBeginsWithEveryMachine(t *testing.T) {
	t.Parallel()
	var h watch.Hub
	defer h.Close()
	h.Publish(event("a", hypervisor.Running))
	h.Publish(event("b", hypervisor.Off))
	h.Publish(event("c", hypervisor.Off))
	h.Publish(hypervisor.Event{UUID: "c", Gone: true})

	events := h.Subscribe(t.Context())
	got := map[string]hypervisor.State{}
	for range 2 {
		ev := receive(t, events)
		got[ev.UUID] = ev.State
	}
	want := map[string]hypervisor.State{"a": hypervisor.Running, "b": hypervisor.Off}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	h.Publish(event("b", hypervisor.Running))
	if ev := receive(t, events); ev != event("b", hypervisor.Running) {
		t.Fatalf("got %v", ev)
	}
}

func TestSlowReaderGetsTheLatest(t *testing.T) {
	t.Parallel()
	var h watch.Hub
	defer h.Close()
	events := h.Subscribe(t.Context())
	for i := range 1000 {
		h.Publish(event(fmt.Sprint(i%2), hypervisor.State(i%3)))
	}
	for _, want := range []hypervisor.Event{event("0", hypervisor.State(998%3)), event("1", hypervisor.State(999%3))} {
		if got := receive(t, events); got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	select {
	case ev := <-events:
		t.Fatalf("one event too many: %v", ev)
	default:
	}
}

func TestGoneReachesReaders(t *testing.T) {
	t.Parallel()
	var h watch.Hub
	defer h.Close()
	h.Publish(event("a", hypervisor.Off))
	events := h.Subscribe(t.Context())
	receive(t, events)
	h.Publish(hypervisor.Event{UUID: "a", Gone: true})
	if ev := receive(t, events); !ev.Gone {
		t.Fatalf("got %v", ev)
	}
}

func TestContextEndsOneSubscription(t *testing.T) {
	t.Parallel()
	var h watch.Hub
	defer h.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended, lives := h.Subscribe(ctx), h.Subscribe(t.Context())
	cancel()
	expectClosed(t, ended)
	h.Publish(event("a", hypervisor.Off))
	receive(t, lives)
}

func TestCloseEndsAll(t *testing.T) {
	t.Parallel()
	var h watch.Hub
	h.Publish(event("a", hypervisor.Off))
	events := h.Subscribe(t.Context())
	h.Close()
	expectClosed(t, events)
	expectClosed(t, h.Subscribe(t.Context()))
}
