package gensrpc

import (
	"github.com/hyperplane-project/hyperplane/cmd/protoc-gen-hyperplane-srpc/model"
)

func (g writer) enum(e *model.Enum) {
	g.P("// ", e.Name, " is ", e.Proto.Desc.FullName(), " on the wire: a number in gob, a text in JSON.")
	g.P("type ", e.Name, " uint32")
	g.P()
	g.enumText(e)
	g.P("// ", toProto(e.Name), " converts what came over the wire.")
	g.P("func ", toProto(e.Name), "(w ", e.Name, ") (", e.Proto.GoIdent, ", error) {")
	g.P("switch w {")
	for _, v := range e.Values {
		g.P("case ", v.Number, ":")
		g.P("return ", v.Proto.GoIdent, ", nil")
	}
	g.P("default:")
	g.P("return 0, ", g.wire("UnknownNumber"), "(", quote(e.Name), ", uint32(w))")
	g.P("}")
	g.P("}")
	g.P()
	g.P("// ", toWire(e.Name), " converts to what goes over the wire.")
	g.P("func ", toWire(e.Name), "(m ", e.Proto.GoIdent, ") (", e.Name, ", error) {")
	g.P("switch m {")
	if e.Absent != nil {
		g.P("case ", e.Absent.GoIdent, ":")
		g.P("return 0, nil")
	}
	for _, v := range e.Values {
		g.P("case ", v.Proto.GoIdent, ":")
		g.P("return ", v.Number, ", nil")
	}
	g.P("default:")
	g.P("return 0, ", g.wire("UnknownValue"), "(", quote(e.Name), ", int32(m))")
	g.P("}")
	g.P("}")
	g.P()
}

func (g writer) enumText(e *model.Enum) {
	g.P("// MarshalText implements encoding.TextMarshaler.")
	g.P("func (w ", e.Name, ") MarshalText() ([]byte, error) {")
	g.P("switch w {")
	for _, v := range e.Values {
		g.P("case ", v.Number, ":")
		g.P("return []byte(", quote(v.Text), "), nil")
	}
	g.P("default:")
	g.P("return nil, ", g.wire("UnknownNumber"), "(", quote(e.Name), ", uint32(w))")
	g.P("}")
	g.P("}")
	g.P()
	g.P("// UnmarshalText implements encoding.TextUnmarshaler.")
	g.P("func (w *", e.Name, ") UnmarshalText(text []byte) error {")
	g.P("switch string(text) {")
	for _, v := range e.Values {
		g.P("case ", quote(v.Text), ":")
		g.P("*w = ", v.Number)
	}
	g.P("default:")
	g.P("return ", g.wire("UnknownText"), "(", quote(e.Name), ", text)")
	g.P("}")
	g.P("return nil")
	g.P("}")
	g.P()
}
