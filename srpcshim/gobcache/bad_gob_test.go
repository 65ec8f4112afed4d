package gobcache_test

import (
	"bytes"
	"encoding/gob"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/gobcache"
	"github.com/hyperplane-project/hyperplane/srpcshim/gobtest"
)

// allocated returns how many bytes f allocates. It must not run beside other tests.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func target(b gobtest.Bomb) any {
	if b.Subnets {
		return new(srpc.UpdateSubnetsRequest)
	}
	return new(srpc.ListVMsRequest)
}

// TestBombs decodes messages of up to 16 MiB that are made to become much more, by all ways: the first one of a peer, one of a peer that is known, and one in a
// stream of several.
func TestBombs(t *testing.T) { // not parallel: it measures the memory
	for _, size := range []int{64 << 10, 2 << 20, 16 << 20} {
		for _, b := range gobtest.Bombs(size) {
			cache := new(gobcache.Cache)
			for _, way := range []struct {
				name   string
				decode func(into any) error
			}{
				{"first", func(into any) error { return cache.Decode(b.Stream, into) }},
				{"again", func(into any) error { return cache.Decode(b.Stream, into) }},
				{"stream", func(into any) error {
					if err := new(gobcache.Guard).Check(b.Stream, into); err != nil {
						return err
					}
					return gob.NewDecoder(bytes.NewReader(b.Stream)).Decode(into)
				}},
			} {
				var err error
				into, start := target(b), time.Now()
				took := allocated(func() { err = way.decode(into) })
				if took > 256<<10+8*uint64(len(b.Stream)) {
					t.Errorf("%s (%s): %d bytes became %d", b.Name, way.name, len(b.Stream), took)
				}
				if d := time.Since(start); d > 10*time.Second {
					t.Errorf("%s (%s): took %v", b.Name, way.name, d)
				}
				if (err == nil) != b.Works && len(b.Stream) > 0 {
					t.Errorf("%s (%s): %v", b.Name, way.name, err)
				}
				if err != nil && (!strings.HasPrefix(err.Error(), "gob: ") || len(err.Error()) > 200) {
					t.Errorf("%s (%s): not clear: %v", b.Name, way.name, err)
				}
			}
		}
	}
}

// TestLargestMessages decodes messages of clients that do much at once.
func TestLargestMessages(t *testing.T) {
	t.Parallel()
	pool := new(srpc.ChangeAddressPoolRequest)
	for i := range 1 << 16 {
		pool.AddressesToRemove = append(pool.AddressesToRemove, srpc.Address{IpAddress: []byte{10, 0, byte(i >> 8), byte(i)}})
	}
	files := &srpc.CreateVmSpec{}
	files.OverlayFiles = map[string][]byte{"/large": make([]byte, 10<<20)}
	for i := range 5000 {
		files.OverlayFiles["/etc/"+strings.Repeat("x", i%50)+string(rune('a'+i%26))] = []byte("x")
	}
	cache := new(gobcache.Cache)
	for range 2 {
		for _, m := range []struct{ message, into any }{{pool, new(srpc.ChangeAddressPoolRequest)}, {files, new(srpc.CreateVmSpec)}} {
			var out bytes.Buffer
			if err := gob.NewEncoder(&out).Encode(m.message); err != nil {
				t.Fatal(err)
			}
			if err := cache.Decode(out.Bytes(), m.into); err != nil {
				t.Errorf("%T of %d bytes: %v", m.message, out.Len(), err)
			}
		}
	}
}

// TestStreamDefinitionsAreBounded lets a client define types with every message of one call.
func TestStreamDefinitionsAreBounded(t *testing.T) {
	t.Parallel()
	guard := new(gobcache.Guard)
	for i := range int64(10000) {
		first := gobtest.First + 2*i
		message := append(gobtest.Struct(first, gobtest.Field{Name: "Sort", Type: gobtest.Bool}), gobtest.Value(first, []byte{1, 1, 0})...)
		if err := guard.Check(message, new(srpc.ListVMsRequest)); err != nil {
			if !strings.Contains(err.Error(), "more than 256 type definitions") {
				t.Error(err)
			}
			return
		}
	}
	t.Error("no end of definitions")
}

// TestSameDefinitionsOtherType: who sends another type behind the definitions that others send does not get in their way.
func TestSameDefinitionsOtherType(t *testing.T) {
	t.Parallel()
	sort := gobtest.Field{Name: "Sort", Type: gobtest.Bool}
	defined := append(gobtest.Struct(70, sort), gobtest.Struct(71, sort, gobtest.Field{Name: "Unknown", Type: 70})...)
	cache := new(gobcache.Cache)
	for _, id := range []int64{70, 71, 70, 71} {
		into := new(srpc.ListVMsRequest)
		if err := cache.Decode(append(bytes.Clone(defined), gobtest.Value(id, []byte{1, 1, 0})...), into); err != nil || !into.Sort {
			t.Errorf("%d: %v %v", id, into, err)
		}
	}
}

// FuzzBombs mutates messages that are made to become much more.
func FuzzBombs(f *testing.F) {
	for _, b := range gobtest.Bombs(500) {
		f.Add(b.Subnets, b.Stream)
	}
	cache := new(gobcache.Cache)
	f.Fuzz(func(t *testing.T, subnets bool, raw []byte) {
		into := target(gobtest.Bomb{Subnets: subnets})
		again := target(gobtest.Bomb{Subnets: subnets})
		first, second := cache.Decode(raw, into), cache.Decode(raw, again)
		if (first == nil) != (second == nil) {
			t.Fatalf("%v, then %v", first, second)
		}
		if third := new(gobcache.Guard).Check(raw, into); first == nil && third != nil {
			t.Fatalf("in a stream: %v", third)
		}
		if first != nil {
			return
		}
		var out bytes.Buffer
		if err := gob.NewEncoder(&out).Encode(into); err == nil && out.Len() > 4096+64*len(raw) {
			t.Fatalf("%d bytes became %d", len(raw), out.Len())
		}
	})
}
