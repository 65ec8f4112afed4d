package gobcache_test

import (
	"bytes"
	"encoding/gob"
	"io"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/srpcshim/gobcache"
)

// fill gives a value something at random in all its fields.
func fill(r *rand.Rand, v reflect.Value) {
	if stamp, ok := reflect.TypeAssert[*time.Time](v.Addr()); ok {
		*stamp = time.Unix(r.Int64N(1<<32), 0).UTC()
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64, reflect.Int32:
		v.SetInt(r.Int64N(1000) - 500)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64N(200))
	case reflect.String:
		v.SetString(string(rune('a' + r.IntN(26))))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+r.IntN(3), 4))
		for i := range v.Len() {
			fill(r, v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(r, key)
			fill(r, elem)
			v.SetMapIndex(key, elem)
		}
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(r, f)
		}
	default:
		panic(v.Kind())
	}
}

// messages returns a message of each type that the schema has on SRPC.
func messages(r *rand.Rand) []any {
	var all []any
	for _, m := range srpc.Methods() {
		for _, fresh := range []func() any{m.Request.New, m.Reply.New} {
			message := fresh()
			fill(r, reflect.ValueOf(message).Elem())
			all = append(all, message)
		}
	}
	return all
}

// TestSameAsGob lets gob read what the cache writes, and the cache what gob writes, more than once for each type.
func TestSameAsGob(t *testing.T) {
	t.Parallel()
	r, cache := rand.New(rand.NewPCG(1, 2)), new(gobcache.Cache)
	for round := range 3 {
		for _, message := range messages(r) {
			var ours, theirs bytes.Buffer
			if err := cache.Encode(&ours, message, nil); err != nil {
				t.Fatalf("%T: %v", message, err)
			}
			if err := gob.NewEncoder(&theirs).Encode(message); err != nil {
				t.Fatal(err)
			}
			if ours.Len() != theirs.Len() {
				t.Errorf("round %d: %T: %d bytes, gob writes %d", round, message, ours.Len(), theirs.Len())
			}
			read, want := reflect.New(reflect.TypeOf(message).Elem()).Interface(), reflect.New(reflect.TypeOf(message).Elem()).Interface()
			if err := gob.NewDecoder(&ours).Decode(read); err != nil {
				t.Errorf("round %d: %T: gob: %v", round, message, err)
			}
			if err := cache.Decode(theirs.Bytes(), want); err != nil {
				t.Errorf("round %d: %T: %v", round, message, err)
			}
			if diff := cmp.Diff(want, read); diff != "" {
				t.Errorf("round %d: %T (-cache read +gob read):\n%s", round, message, diff)
			}
		}
	}
}

// TestStream puts messages of all types, several times, into one stream, some of them encoded elsewhere.
func TestStream(t *testing.T) {
	t.Parallel()
	r, cache, sent := rand.New(rand.NewPCG(3, 4)), new(gobcache.Cache), make(gobcache.Sent)
	var stream bytes.Buffer
	decoder := gob.NewDecoder(&stream)
	for i, message := range append(messages(r), messages(r)...) {
		var err error
		if i%3 == 0 {
			var value bytes.Buffer
			if err = cache.Value(&value, message); err == nil {
				err = cache.Define(&stream, message, sent)
				stream.Write(value.Bytes())
			}
		} else {
			err = cache.Encode(&stream, message, sent)
		}
		if err != nil {
			t.Fatalf("%T: %v", message, err)
		}
		read := reflect.New(reflect.TypeOf(message).Elem()).Interface()
		if err := decoder.Decode(read); err != nil {
			t.Fatalf("%T: %v", message, err)
		}
	}
	if _, err := stream.ReadByte(); err != io.EOF { //nolint:errorlint // bytes.Buffer returns it bare
		t.Error("there is something left")
	}
}

// TestInterfaces leaves types alone whose definitions depend on the value.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	type inner struct{ Any []any }
	type open struct{ Inner map[string]*inner }
	cache := new(gobcache.Cache)
	if cache.Splits(new(open)) {
		t.Error("a type with an interface in it is split")
	}
	for range 2 {
		var out bytes.Buffer
		if err := cache.Encode(&out, &open{map[string]*inner{"a": {[]any{"x", 3}}}}, nil); err != nil {
			t.Fatal(err)
		}
		got := new(open)
		if err := cache.Decode(out.Bytes(), got); err != nil || len(got.Inner["a"].Any) != 2 {
			t.Errorf("%v, %v", got, err)
		}
	}
}

// TestWrongBytes decodes good messages after bad ones.
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	cache := new(gobcache.Cache)
	type message struct{ A, B string }
	var good bytes.Buffer
	if err := gob.NewEncoder(&good).Encode(message{"a", "b"}); err != nil {
		t.Fatal(err)
	}
	for cut := range good.Len() {
		into := new(message)
		if err := cache.Decode(good.Bytes()[:cut], into); err == nil {
			t.Errorf("%d of %d bytes are no error", cut, good.Len())
		}
		wrong := bytes.Clone(good.Bytes())
		wrong[cut] ^= 0x55
		_ = cache.Decode(wrong, new(message)) // whatever it makes of it
		into = new(message)
		if err := cache.Decode(good.Bytes(), into); err != nil || *into != (message{"a", "b"}) {
			t.Errorf("after %d: %v, %v", cut, into, err)
		}
	}
}

// TestTogether uses one cache from several goroutines.
func TestTogether(t *testing.T) {
	t.Parallel()
	cache := new(gobcache.Cache)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(5, uint64(i)))
			for _, message := range messages(r) {
				var out bytes.Buffer
				read := reflect.New(reflect.TypeOf(message).Elem()).Interface()
				if err := cache.Encode(&out, message, nil); err != nil {
					t.Errorf("%T: %v", message, err)
				} else if err := cache.Decode(out.Bytes(), read); err != nil {
					t.Errorf("%T: %v", message, err)
				}
			}
		})
	}
	all.Wait()
}

// FuzzDecode compares with gob.
func FuzzDecode(f *testing.F) {
	for _, message := range messages(rand.New(rand.NewPCG(7, 8))) {
		if m, ok := message.(*srpc.GetVmInfosRequest); ok {
			var out bytes.Buffer
			if err := gob.NewEncoder(&out).Encode(m); err != nil {
				f.Fatal(err)
			}
			f.Add(out.Bytes())
		}
	}
	cache := new(gobcache.Cache)
	f.Fuzz(func(t *testing.T, raw []byte) {
		ours, theirs := new(srpc.GetVmInfosRequest), new(srpc.GetVmInfosRequest)
		for range 2 {
			if cache.Decode(raw, ours) == nil { // what it refuses may be too much for gob
				if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(theirs); err != nil {
					t.Fatalf("gob says %v", err)
				}
				if diff := cmp.Diff(theirs, ours); diff != "" {
					t.Fatal(diff)
				}
			}
			*ours, *theirs = srpc.GetVmInfosRequest{}, srpc.GetVmInfosRequest{}
		}
	})
}
