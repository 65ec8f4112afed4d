package gensrpc

import (
	"strconv"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/hyperplane-project/hyperplane/cmd/protoc-gen-hyperplane-srpc/model"
)

func quote(text string) string { return strconv.Quote(text) }

// toProto and toWire name the conversions of a type.
func toProto(name string) string { return name + "ToProto" }

func toWire(name string) string { return name + "ToWire" }

func (g writer) message(m *model.Message) {
	g.P("// ", m.Name, " is ", m.Proto.Desc.FullName(), " on the wire.")
	g.P("type ", m.Name, " struct {")
	for _, f := range m.Fields {
		g.field(f)
	}
	if m.Error {
		g.P("Error string")
	}
	g.P("}")
	g.P()
	if m.Error {
		g.P("// SetError implements wire.ErrorReply.")
		g.P("func (m *", m.Name, ") SetError(text string) { m.Error = text }")
		g.P()
		g.P("// ErrorText implements wire.ErrorReply.")
		g.P("func (m *", m.Name, ") ErrorText() string { return m.Error }")
		g.P()
	}
	g.messageToProto(m)
	g.messageToWire(m)
}

// field writes a field. Lists, maps and bytes that are empty are left out of JSON, because other languages take null for a value.
func (g writer) field(f model.Field) {
	switch {
	case f.Embedded:
		g.P(f.Name)
	case f.Shape != model.Single || f.Value.Kind == model.IP || f.Value.Kind == model.Bare || f.Value.Go == "[]byte":
		g.P(f.Name, " ", g.fieldType(f), " `json:\",omitempty\"`")
	default:
		g.P(f.Name, " ", g.fieldType(f))
	}
}

func (g writer) fieldType(f model.Field) string {
	switch f.Shape {
	case model.List:
		return "[]" + g.valueType(f.Value)
	case model.Map:
		return "map[" + f.Key + "]" + g.valueType(f.Value)
	default:
		return g.valueType(f.Value)
	}
}

func (g writer) valueType(v model.Value) string {
	switch v.Kind {
	case model.IP:
		return g.QualifiedGoIdent(protogen.GoImportPath("net").Ident("IP"))
	case model.Time:
		return g.QualifiedGoIdent(protogen.GoImportPath("time").Ident("Time"))
	case model.Duration:
		return g.QualifiedGoIdent(protogen.GoImportPath("time").Ident("Duration"))
	case model.EnumNumber:
		return v.Enum.Name
	case model.Struct:
		return v.Message.Name
	case model.Bare:
		return g.fieldType(v.Bare.List)
	default:
		return v.Go
	}
}

func (g writer) messageToProto(m *model.Message) {
	g.P("// ", toProto(m.Name), " converts what came over the wire. Its errors name the field.")
	g.P("func ", toProto(m.Name), "(", argument("w", m), " ", m.Name, ") (*", m.Proto.GoIdent, ", error) {")
	g.convert(m.Fields, func() {
		g.P("m := &", m.Proto.GoIdent, "{")
		for _, f := range m.Fields {
			g.P(f.Proto.GoName, ": ", g.expression(f, "w."+f.Name, true), ",")
		}
		g.P("}")
	})
	g.P("return m, ", result(m.Fields))
	g.P("}")
	g.P()
}

func (g writer) messageToWire(m *model.Message) {
	g.P("// ", toWire(m.Name), " converts to what goes over the wire. Its errors name the field.")
	g.P("func ", toWire(m.Name), "(", argument("m", m), " *", m.Proto.GoIdent, ") (", m.Name, ", error) {")
	g.convert(m.Fields, func() {
		g.P("w := ", m.Name, "{")
		for _, f := range m.Fields {
			g.P(f.Name, ": ", g.expression(f, "m.Get"+f.Proto.GoName+"()", false), ",")
		}
		g.P("}")
	})
	g.P("return w, ", result(m.Fields))
	g.P("}")
	g.P()
}

// argument names the argument of a conversion, which one without fields does not use.
func argument(name string, m *model.Message) string {
	if len(m.Fields) == 0 {
		return "_"
	}
	return name
}

// convert writes a conversion's body around the literal.
func (g writer) convert(fields []model.Field, literal func()) {
	if canFail(fields) {
		g.P("var e ", g.wire("Errors"))
	}
	literal()
}

func result(fields []model.Field) string {
	if canFail(fields) {
		return "e.Err()"
	}
	return "nil"
}

func canFail(fields []model.Field) bool {
	for _, f := range fields {
		if k := f.Value.Kind; k != model.Scalar && (f.Shape != model.Single || (k != model.Time && k != model.Duration)) {
			return true
		}
	}
	return false
}

// unwrapped writes the conversions of a message that travels as the list in it.
func (g writer) unwrapped(u *model.Unwrapped) {
	fields := []model.Field{u.List}
	g.P("// ", toProto(u.Name), " converts what came over the wire. Its errors name the field.")
	g.P("func ", toProto(u.Name), "(w ", g.fieldType(u.List), ") (*", u.Proto.GoIdent, ", error) {")
	g.convert(fields, func() {
		g.P("m := &", u.Proto.GoIdent, "{", u.List.Proto.GoName, ": ", g.expression(u.List, "w", true), "}")
	})
	g.P("return m, ", result(fields))
	g.P("}")
	g.P()
	g.P("// ", toWire(u.Name), " converts to what goes over the wire. Its errors name the field.")
	g.P("func ", toWire(u.Name), "(m *", u.Proto.GoIdent, ") (", g.fieldType(u.List), ", error) {")
	g.convert(fields, func() { g.P("w := ", g.expression(u.List, "m.Get"+u.List.Proto.GoName+"()", false)) })
	g.P("return w, ", result(fields))
	g.P("}")
	g.P()
}
