// Package model resolves what the schema says about SRPC: which methods are request/reply, which messages they reach, and how each field
// travels. It checks that the schema can be carried at all. It writes no text.
package model

import (
	"google.golang.org/protobuf/compiler/protogen"
)

// API is everything that is to be generated.
type API struct {
	// Files are in the order of their names, what is in them in the order of the schema.
	Files   []*File
	Methods []Method
}

// File is one generated file, made from one schema file.
type File struct {
	// Name is the schema file's base name without its ending.
	Name string
	// Source is the schema file's path.
	Source    string
	Messages  []*Message
	Enums     []*Enum
	Unwrapped []*Unwrapped
}

// Method is a request/reply method.
type Method struct {
	// Service and Name are its name on the wire.
	Service, Name  string
	Proto          *protogen.Method
	Request, Reply *Message
	// Files says that the request carries files: a map of bytes, directly or in a part.
	Files bool
}

// Message is a struct on the wire.
type Message struct {
	Name   string
	Proto  *protogen.Message
	Fields []Field
	// Error says that it is a reply with an Error field.
	Error bool
}

// Shape says how many values a field holds.
type Shape int

// The shapes.
const (
	Single Shape = iota
	List
	Map
)

// Field is a field of a struct.
type Field struct {
	// Name is the Go field's name on the wire; of an embedded struct, its type's.
	Name     string
	Proto    *protogen.Field
	Shape    Shape
	Embedded bool
	// Key is the Go type of a map's keys.
	Key   string
	Value Value
}

// Kind says what a value is on the wire.
type Kind int

// The kinds.
const (
	// Scalar is the same Go type on both sides.
	Scalar Kind = iota
	// IP is net.IP here, a text in the proto message.
	IP
	// Time is time.Time, Duration time.Duration, in nanoseconds.
	Time
	Duration
	// EnumNumber is an unsigned number with texts in JSON.
	EnumNumber
	// Struct is a message.
	Struct
	// Bare is the list in a message that holds nothing else.
	Bare
)

// Value is the type of a field's value, or of each of its values.
type Value struct {
	Kind Kind
	// Go is a scalar's Go type.
	Go      string
	Message *Message
	Enum    *Enum
	Bare    *Unwrapped
}

// Enum is an enumeration.
type Enum struct {
	Name   string
	Proto  *protogen.Enum
	Values []EnumValue
	// Absent is the proto value without a text, if there is one: it does not exist on the wire and becomes zero there.
	Absent *protogen.EnumValue
}

// EnumValue is a value that exists on the wire.
type EnumValue struct {
	Proto  *protogen.EnumValue
	Number uint32
	Text   string
}

// Unwrapped is a message that travels as the list in it.
type Unwrapped struct {
	Name  string
	Proto *protogen.Message
	List  Field
}
