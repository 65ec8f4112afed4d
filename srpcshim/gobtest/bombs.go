package gobtest

import "bytes"

// Bomb is a message that is small, and large when gob decodes it.
type Bomb struct {
	Name string
	// Stream is the message, for a request of ListVMs, or of UpdateSubnets if Subnets.
	Stream  []byte
	Subnets bool
	// Works says that there is nothing wrong with it but its length.
	Works bool
}

const (
	s = First // the struct
	e = First + 1
)

// message makes a message of one struct; body begins with its first field's step.
func message(definitions [][]byte, body ...[]byte) []byte {
	return append(bytes.Join(definitions, nil), Value(s, append(bytes.Join(body, nil), 0))...)
}

func repeat(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

// Bombs returns bombs of n bytes; some are shorter. What they are made of is in no message of the protocol's clients.
func Bombs(n int) []Bomb {
	sort, unknown := Field{"Sort", Bool}, Field{"Unknown", e}
	many := min(n, 256<<10) // making them takes time
	count := func(c uint64) []byte { return AppendUint([]byte{1}, c) }
	skipped := Struct(s, sort, unknown)
	users, tags := Struct(s, Field{"OwnerUsers", e}), Struct(s, Field{"VmTagsToMatch", e})
	return []Bomb{
		{Name: "empty structs", Subnets: true, Stream: message([][]byte{Struct(s, Field{"Add", e}), Slice(e, e+1), Struct(e+1, Field{"SubnetId", String})}, count(uint64(n)), repeat(0, n))},
		{Name: "empty texts", Stream: message([][]byte{users, Slice(e, String)}, count(uint64(n)), repeat(0, n))},
		{Name: "count of a list", Stream: message([][]byte{users, Slice(e, String)}, count(1<<29))},
		{Name: "count beyond all numbers", Stream: message([][]byte{users, Slice(e, String)}, count(1<<63))},
		{Name: "count of a map", Stream: message([][]byte{tags, Map(e, String, e+1), Slice(e+1, String)}, count(1<<40))},
		{Name: "length of a text", Stream: message([][]byte{users, Slice(e, String)}, count(1), AppendUint(nil, 1<<40))},
		{Name: "unknown map of nothing", Stream: append(bytes.Join([][]byte{skipped, Map(e, e+1, e+1), Struct(e + 1)}, nil), Value(s, AppendUint([]byte{2}, 1<<62))...)},
		{Name: "unknown array of nothing", Stream: message([][]byte{skipped, Array(e, e+1, 1<<62), Struct(e + 1)}, AppendUint([]byte{2}, 1<<62))},
		{Name: "nested lists", Stream: message([][]byte{skipped, Slice(e, e)}, []byte{2}, repeat(1, n), []byte{0})},
		{Name: "nested structs", Stream: message([][]byte{skipped, Struct(e, Field{"A", e})}, []byte{2}, repeat(1, n/2), repeat(0, n/2))},
		{Name: "nested maps", Stream: message([][]byte{skipped, Map(e, Uint, e)}, []byte{2}, repeat(1, n/2*2), []byte{0})},
		{Name: "unknown interface", Stream: message([][]byte{Struct(s, sort, Field{"Unknown", Interface})}, []byte{2}, AppendText(nil, "name"), []byte{12, 2, 0, 0})},
		{Name: "types in an interface", Stream: message([][]byte{Struct(s, sort, Field{"Unknown", Interface})}, []byte{2}, AppendText(nil, "name"), Slice(e, e))},
		{Name: "definitions", Stream: message([][]byte{definitions(many, func(int64) int64 { return String }), Struct(s, sort)}, []byte{1, 1})},
		{Name: "definitions of each other", Stream: message([][]byte{definitions(many, func(i int64) int64 { return i + 1 }), Struct(s, sort, Field{"Unknown", 1000})}, []byte{1, 1})},
		{Name: "fields", Stream: message([][]byte{Struct(s, fields(many)...)}, []byte{1, 1})},
		{Name: "defined twice", Stream: message([][]byte{Struct(s, sort), Struct(s, Field{"OwnerUsers", String})}, []byte{1, 1})},
		{Name: "own number redefined", Stream: message([][]byte{Struct(s, sort), Slice(String, Uint)}, []byte{1, 1})},
		{Name: "not defined", Stream: message([][]byte{Struct(s, sort, Field{"Unknown", e + 5})}, []byte{1, 1})},
		{Name: "unknown field", Works: true, Stream: message([][]byte{skipped, Slice(e, String)}, []byte{1, 1, 1, 2, 0, 1, 'x'})},
		{Name: "unknown bytes", Works: true, Stream: message([][]byte{Struct(s, sort, Field{"Unknown", Bytes})}, []byte{1, 1, 1}, AppendText(nil, Text(n)))},
	}
}

// definitions makes n bytes of definitions of lists.
func definitions(n int, elem func(i int64) int64) []byte {
	var all []byte
	i := int64(1000)
	for ; len(all) < n; i++ {
		all = append(all, Slice(i, elem(i))...)
	}
	return append(all, Slice(i, String)...)
}

func fields(n int) []Field {
	all := []Field{{"Sort", Bool}}
	for len(all) < n/8 {
		all = append(all, Field{"x", Bool})
	}
	return all
}
