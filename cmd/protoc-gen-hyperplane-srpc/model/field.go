package model

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
)

func fieldRules(f *protogen.Field) *optionsv1.FieldRules {
	rules, _ := proto.GetExtension(f.Desc.Options(), optionsv1.E_Field).(*optionsv1.FieldRules)
	return rules
}

func (b *builder) fields(m *protogen.Message) ([]Field, error) {
	var fields []Field
	for _, f := range m.Fields {
		if fieldRules(f).GetSrpcOmit() {
			continue
		}
		w, err := b.field(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Desc.FullName(), err)
		}
		fields = append(fields, w)
	}
	return fields, nil
}

func (b *builder) field(f *protogen.Field) (Field, error) {
	rules := fieldRules(f)
	w := Field{Name: rules.GetSrpcName(), Proto: f, Embedded: rules.GetSrpcEmbedded()}
	if w.Name == "" {
		w.Name = f.GoName
	}
	if f.Oneof != nil {
		return w, errors.New("oneof and optional fields can not be carried by SRPC")
	}
	value := f
	switch {
	case f.Desc.IsMap():
		key, ok := scalar(f.Message.Fields[0].Desc.Kind())
		if !ok {
			return w, errors.New("its map key has no Go type")
		}
		w.Shape, w.Key, value = Map, key, f.Message.Fields[1]
	case f.Desc.IsList():
		w.Shape = List
	}
	var err error
	if w.Value, err = b.value(value, rules.GetSrpcType()); err != nil {
		return w, err
	}
	if w.Embedded {
		if w.Shape != Single || w.Value.Kind != Struct {
			return w, errors.New("is no single message, so it can not be embedded")
		}
		w.Name = w.Value.Message.Name
	}
	return w, nil
}

func (b *builder) value(f *protogen.Field, as optionsv1.SrpcType) (Value, error) {
	switch as {
	case optionsv1.SrpcType_SRPC_TYPE_IP:
		if f.Desc.Kind() != protoreflect.StringKind {
			return Value{}, errors.New("is no string, so it can not be SRPC_TYPE_IP")
		}
		return Value{Kind: IP}, nil
	case optionsv1.SrpcType_SRPC_TYPE_UNWRAP:
		u, err := b.unwrapped(f)
		return Value{Kind: Bare, Bare: u}, err
	default:
	}
	switch f.Desc.Kind() {
	case protoreflect.EnumKind:
		e, err := b.enum(f.Enum)
		return Value{Kind: EnumNumber, Enum: e}, err
	case protoreflect.MessageKind:
		return b.messageValue(f.Message)
	default:
		goType, ok := scalar(f.Desc.Kind())
		if !ok {
			return Value{}, fmt.Errorf("kind %s can not be carried by SRPC", f.Desc.Kind())
		}
		return Value{Kind: Scalar, Go: goType}, nil
	}
}

func (b *builder) messageValue(m *protogen.Message) (Value, error) {
	switch m.Desc.FullName() {
	case "google.protobuf.Timestamp":
		return Value{Kind: Time}, nil
	case "google.protobuf.Duration":
		return Value{Kind: Duration}, nil
	default:
		w, err := b.message(m, asOther)
		return Value{Kind: Struct, Message: w}, err
	}
}

func (b *builder) unwrapped(f *protogen.Field) (*Unwrapped, error) {
	m := f.Message
	if m == nil || len(m.Fields) != 1 || !m.Fields[0].Desc.IsList() {
		return nil, errors.New("is no message with one list in it, so it can not be SRPC_TYPE_UNWRAP")
	}
	if err := b.use(m, asBare); err != nil {
		return nil, err
	}
	if known, ok := b.bare[m.Desc.FullName()]; ok {
		return known, nil
	}
	if err := b.claim(m.GoIdent.GoName, m.Desc); err != nil {
		return nil, err
	}
	file, err := b.file(m.Desc)
	if err != nil {
		return nil, err
	}
	u := &Unwrapped{Name: m.GoIdent.GoName, Proto: m}
	if u.List, err = b.field(m.Fields[0]); err != nil {
		return nil, err
	}
	b.bare[m.Desc.FullName()] = u
	file.Unwrapped = append(file.Unwrapped, u)
	return u, nil
}

// scalar returns the Go type of a kind that is the same on both sides.
func scalar(k protoreflect.Kind) (string, bool) {
	switch k {
	case protoreflect.BoolKind:
		return "bool", true
	case protoreflect.StringKind:
		return "string", true
	case protoreflect.BytesKind:
		return "[]byte", true
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return "int32", true
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return "int64", true
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return "uint32", true
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return "uint64", true
	case protoreflect.FloatKind:
		return "float32", true
	case protoreflect.DoubleKind:
		return "float64", true
	default:
		return "", false
	}
}
