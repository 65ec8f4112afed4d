package prewire_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/hyperplane-project/hyperplane/internal/prewire"
)

// TestReply makes an answer once for each form of it, and for each call that has none.
func TestReply(t *testing.T) {
	t.Parallel()
	var cache prewire.Cache
	built := 0
	answer := func(ctx context.Context, _ any) (any, error) {
		return prewire.Reply(ctx, &cache, func() *wrapperspb.StringValue { built++; return wrapperspb.String("x") }), nil
	}
	want, err := proto.Marshal(wrapperspb.String("x"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got, err := prewire.Unary(t.Context(), nil, new(grpc.UnaryServerInfo), answer)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := proto.Marshal(got.(proto.Message)); err != nil || string(raw) != string(want) {
			t.Errorf("%q, %v; want %q", raw, err, want)
		}
		other := &prewire.Call{Form: "other", Encode: func(proto.Message) ([]byte, error) { return []byte("!"), nil }}
		if _, err := answer(prewire.With(t.Context(), other), nil); err != nil || string(other.Raw) != "!" {
			t.Errorf("%q, %v", other.Raw, err)
		}
	}
	if built != 2 {
		t.Errorf("made %d times, want once for each form", built)
	}
	failing := &prewire.Call{Form: "failing", Encode: func(proto.Message) ([]byte, error) { return nil, errors.New("no") }}
	for _, ctx := range []context.Context{t.Context(), prewire.With(t.Context(), failing)} {
		got, err := answer(ctx, nil)
		if s := got.(*wrapperspb.StringValue).GetValue(); err != nil || s != "x" || failing.Raw != nil {
			t.Errorf("%q, %v, %q", s, err, failing.Raw)
		}
	}
}
