package gensrpc

import (
	"github.com/hyperplane-project/hyperplane/cmd/protoc-gen-hyperplane-srpc/model"
)

// expression returns the conversion of a field's content, to the proto message or to the wire.
func (g writer) expression(f model.Field, from string, proto bool) string {
	single := f.Shape == model.Single
	switch {
	case f.Value.Kind == model.Scalar:
		return from
	case single && (f.Value.Kind == model.Time || f.Value.Kind == model.Duration):
		return g.converter(f.Value, proto) + "(" + from + ")"
	case single && proto && f.Value.Kind == model.Struct:
		return g.call("Message", f, from, proto)
	case single:
		return g.call("One", f, from, proto)
	case f.Shape == model.List:
		return g.call("List", f, from, proto)
	default:
		return g.call("Map", f, from, proto)
	}
}

func (g writer) call(function string, f model.Field, from string, proto bool) string {
	convert := g.converter(f.Value, proto)
	if f.Value.Kind == model.Time || f.Value.Kind == model.Duration {
		convert = g.wire("Infallible") + "(" + convert + ")"
	}
	return g.wire(function) + "(&e, " + quote(f.Name) + ", " + from + ", " + convert + ")"
}

// converter returns the function that converts one value.
func (g writer) converter(v model.Value, proto bool) string {
	name := toWire
	if proto {
		name = toProto
	}
	switch v.Kind {
	case model.Struct:
		return name(v.Message.Name)
	case model.EnumNumber:
		return name(v.Enum.Name)
	case model.Bare:
		return name(v.Bare.Name)
	case model.Time:
		return g.wire(exported("Time", proto))
	case model.Duration:
		return g.wire(exported("Duration", proto))
	default:
		return g.wire(exported("IP", proto))
	}
}

func exported(name string, proto bool) string {
	if proto {
		return name + "ToProto"
	}
	return name + "ToWire"
}
