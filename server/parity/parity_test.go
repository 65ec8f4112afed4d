package parity_test

import (
	"context"
	"flag"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

var update = flag.Bool("update", false, "write API_CHECKLIST.md from what the test sees")

const checklist = "../../API_CHECKLIST.md"

// The cells of the checklist.
const (
	works  = "works"
	notYet = "not yet"
	none   = "n/a"
)

// columns are the transports, in the checklist's order.
func columns() []string { return []string{"gRPC", "REST", "SRPC gob", "SRPC JSON"} }

// methods returns all methods of the schema, in the order of the files.
func methods() []protoreflect.MethodDescriptor {
	var all []protoreflect.MethodDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(f.Package()), "hyperplane.") {
			for i := range f.Services().Len() {
				s := f.Services().Get(i)
				for j := range s.Methods().Len() {
					all = append(all, s.Methods().Get(j))
				}
			}
		}
		return true
	})
	return all
}

// naming returns a copy of a request with its vm field filled in, if it has one.
func naming(req proto.Message, vm string) proto.Message {
	req = proto.Clone(req)
	if f := req.ProtoReflect().Descriptor().Fields().ByName("vm"); f != nil {
		req.ProtoReflect().Set(f, protoreflect.ValueOfString(vm))
	}
	return req
}

func isStream(m protoreflect.MethodDescriptor) bool {
	return m.IsStreamingClient() || m.IsStreamingServer()
}

// results collects what each method does on each transport.
type results struct {
	mu    sync.Mutex
	cells map[protoreflect.FullName]map[string]string
}

func (r *results) set(m protoreflect.MethodDescriptor, column, cell string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cells[m.FullName()] == nil {
		r.cells[m.FullName()] = make(map[string]string)
	}
	r.cells[m.FullName()][column] = cell
}

func TestParity(t *testing.T) { //nolint:tparallel // the group must have ended before the checklist is written; its members are parallel
	t.Parallel()
	w := newWorld(t)
	transports, rest := transportsOf(w)
	res := &results{cells: make(map[protoreflect.FullName]map[string]string)}
	t.Run("methods", func(t *testing.T) {
		for _, m := range methods() {
			for _, column := range columns() {
				tr := transports[column]
				t.Run(string(m.Name())+"/"+column, func(t *testing.T) {
					t.Parallel()
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if change, ok := alone(string(m.Name())); ok {
						own := newWorld(t, change)
						transports, rest := transportsOf(own)
						res.set(m, column, try(ctx, t, own, m, column, transports[column], rest))
						return
					}
					res.set(m, column, try(ctx, t, w.in(t), m, column, tr, rest))
				})
			}
		}
	})
	got := render(res)
	if *update {
		if err := os.WriteFile(checklist, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(checklist)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("API_CHECKLIST.md is not what the test saw; run make checklist and look at the difference:\n%s", diff)
	}
}

// transportsOf returns the transports to a server by their columns, and REST once more for streams.
func transportsOf(w *world) (map[string]transport, restTransport) {
	client, base := w.HTTP()
	rest := restTransport{client, base, w.Token()}
	transports := map[string]transport{"gRPC": grpcTransport{w.cc}, "REST": rest}
	maps.Copy(transports, srpcTransports(w))
	return transports, rest
}

// try runs a method's case on one transport and returns its cell.
func try(ctx context.Context, t *testing.T, w *world, m protoreflect.MethodDescriptor, column string, tr transport, rest restTransport) string {
	t.Helper()
	srpc := strings.HasPrefix(column, "SRPC")
	kind := intercept.MethodRules(m).GetSrpc().GetKind()
	switch {
	case srpc && kind == optionsv1.SrpcKind_SRPC_KIND_UNSPECIFIED:
		return none
	case srpc && kind == optionsv1.SrpcKind_SRPC_KIND_STREAM:
		return trySRPCStream(ctx, t, m, tr)
	case srpc && tr == nil:
		return notYet
	}
	name := string(m.Name())
	if c, ok := streams()[name]; ok && isStream(m) {
		err := c.grpc
		if column == "REST" {
			err = func(ctx context.Context, w *world) error { return c.rest(ctx, w, rest) }
		}
		if err := err(ctx, w); err != nil {
			t.Error(err)
		}
		return works
	}
	if c, ok := unary()[name]; ok && !isStream(m) {
		req := c.request(ctx, w)
		answer, err := tr.call(ctx, m, req)
		if err != nil {
			t.Fatal(err)
		}
		c.check(ctx, t, w, req, answer)
		return works
	}
	if !isStream(m) {
		unbuilt(ctx, t, w, m, tr)
	}
	return notYet
}

// unbuilt checks that a method that has no case answers UNIMPLEMENTED, as its administrator sees it.
func unbuilt(ctx context.Context, t *testing.T, w *world, m protoreflect.MethodDescriptor, tr transport) {
	t.Helper()
	req := dynamicpb.NewMessage(m.Input())
	var filled proto.Message = req
	if m.Input().Fields().ByName("vm") != nil {
		filled = naming(req, w.vm(ctx, false))
	}
	if _, err := tr.call(ctx, m, filled); status.Code(err) != codes.Unimplemented {
		t.Errorf("no case, and it answers %v instead of UNIMPLEMENTED: write a case", err)
	}
}

// TestNoCaseWithoutMethod finds cases whose method was renamed.
func TestNoCaseWithoutMethod(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, m := range methods() {
		known[string(m.Name())] = true
	}
	for name := range unary() {
		if !known[name] {
			t.Errorf("case %s has no method", name)
		}
	}
	for name := range streams() {
		if !known[name] {
			t.Errorf("case %s has no method", name)
		}
	}
}
