package model

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
)

// Build resolves the files that are to be generated.
func Build(p *protogen.Plugin) (*API, error) {
	b := &builder{
		api: new(API), files: make(map[string]*File), messages: make(map[protoreflect.FullName]*Message),
		enums: make(map[protoreflect.FullName]*Enum), bare: make(map[protoreflect.FullName]*Unwrapped),
		goNames: make(map[string]protoreflect.FullName), roles: make(map[protoreflect.FullName]role),
	}
	for _, f := range p.Files {
		for _, s := range f.Services {
			for _, m := range s.Methods {
				if err := b.method(m, f.Generate); err != nil {
					return nil, fmt.Errorf("%s: %w", m.Desc.FullName(), err)
				}
			}
		}
	}
	slices.SortFunc(b.api.Files, func(x, y *File) int { return strings.Compare(x.Name, y.Name) })
	for _, f := range b.api.Files {
		sortBySchema(f.Messages, func(m *Message) protoreflect.Descriptor { return m.Proto.Desc })
		sortBySchema(f.Enums, func(e *Enum) protoreflect.Descriptor { return e.Proto.Desc })
		sortBySchema(f.Unwrapped, func(u *Unwrapped) protoreflect.Descriptor { return u.Proto.Desc })
	}
	return b.api, nil
}

func sortBySchema[T any](all []T, of func(T) protoreflect.Descriptor) {
	slices.SortFunc(all, func(x, y T) int { return of(x).Index() - of(y).Index() })
}

type builder struct {
	api      *API
	files    map[string]*File
	messages map[protoreflect.FullName]*Message
	enums    map[protoreflect.FullName]*Enum
	bare     map[protoreflect.FullName]*Unwrapped
	goNames  map[string]protoreflect.FullName
	roles    map[protoreflect.FullName]role
}

// role is what a message is used as, which decides its shape on the wire.
type role string

const (
	asReply role = "a reply with an Error field"
	asOther role = "a request, a part of a message, or a reply without an Error field"
	asBare  role = "SRPC_TYPE_UNWRAP"
)

func (b *builder) method(m *protogen.Method, generate bool) error {
	rules, _ := proto.GetExtension(m.Desc.Options(), optionsv1.E_Method).(*optionsv1.MethodRules)
	srpc := rules.GetSrpc()
	if !generate || srpc.GetKind() != optionsv1.SrpcKind_SRPC_KIND_REQUEST_REPLY {
		return nil
	}
	if srpc.GetService() == "" {
		return fmt.Errorf("has no SRPC service name")
	}
	if m.Desc.IsStreamingClient() || m.Desc.IsStreamingServer() {
		return fmt.Errorf("streams, so it can not be SRPC_KIND_REQUEST_REPLY")
	}
	request, err := b.message(m.Input, asOther)
	if err != nil {
		return err
	}
	as := asReply
	if srpc.GetReplyWithoutError() {
		as = asOther
	}
	reply, err := b.message(m.Output, as)
	if err != nil {
		return err
	}
	name := srpc.GetService() + "." + string(m.Desc.Name())
	for _, other := range b.api.Methods {
		if other.Service+"."+other.Name == name {
			return fmt.Errorf("SRPC method %s exists already, as %s", name, other.Proto.Desc.FullName())
		}
	}
	b.api.Methods = append(b.api.Methods, Method{
		Service: srpc.GetService(), Name: string(m.Desc.Name()), Proto: m, Request: request, Reply: reply, Files: carriesFiles(request),
	})
	return nil
}

func carriesFiles(m *Message) bool {
	return slices.ContainsFunc(m.Fields, func(f Field) bool {
		return f.Shape == Map && f.Value.Go == "[]byte" || f.Value.Kind == Struct && carriesFiles(f.Value.Message)
	})
}

// file returns the generated file for something of the schema.
func (b *builder) file(d protoreflect.Descriptor) (*File, error) {
	source := d.ParentFile().Path()
	name := strings.TrimSuffix(path.Base(source), ".proto")
	f, ok := b.files[name]
	if !ok {
		f = &File{Name: name, Source: source}
		b.files[name] = f
		b.api.Files = append(b.api.Files, f)
	}
	if f.Source != source {
		return nil, fmt.Errorf("%s and %s would be generated into one file", f.Source, source)
	}
	return f, nil
}

// claim reserves the Go name of something: all generated code is one package.
func (b *builder) claim(name string, d protoreflect.Descriptor) error {
	if other, taken := b.goNames[name]; taken && other != d.FullName() {
		return fmt.Errorf("%s and %s would both be called %s", other, d.FullName(), name)
	}
	b.goNames[name] = d.FullName()
	return nil
}

// use notes what a message is used as, which can be one thing only.
func (b *builder) use(m *protogen.Message, as role) error {
	if before, used := b.roles[m.Desc.FullName()]; used && before != as {
		return fmt.Errorf("%s is used as %s and as %s", m.Desc.FullName(), before, as)
	}
	b.roles[m.Desc.FullName()] = as
	return nil
}

func (b *builder) message(m *protogen.Message, as role) (*Message, error) {
	if err := b.use(m, as); err != nil {
		return nil, err
	}
	if known, ok := b.messages[m.Desc.FullName()]; ok {
		if known == nil {
			return nil, fmt.Errorf("%s contains itself", m.Desc.FullName())
		}
		return known, nil
	}
	if err := b.claim(m.GoIdent.GoName, m.Desc); err != nil {
		return nil, err
	}
	f, err := b.file(m.Desc)
	if err != nil {
		return nil, err
	}
	b.messages[m.Desc.FullName()] = nil // until its fields are known
	w := &Message{Name: m.GoIdent.GoName, Proto: m, Error: as == asReply}
	if w.Fields, err = b.fields(m); err != nil {
		return nil, err
	}
	b.messages[m.Desc.FullName()] = w
	f.Messages = append(f.Messages, w)
	return w, checkNames(w)
}

func checkNames(w *Message) error {
	seen := make(map[string]bool)
	if w.Error {
		seen["Error"] = true
	}
	for _, f := range w.Fields {
		if seen[f.Name] {
			return fmt.Errorf("%s has two fields that are %s on the wire", w.Proto.Desc.FullName(), f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

func (b *builder) enum(e *protogen.Enum) (*Enum, error) {
	if known, ok := b.enums[e.Desc.FullName()]; ok {
		return known, nil
	}
	if err := b.claim(e.GoIdent.GoName, e.Desc); err != nil {
		return nil, err
	}
	f, err := b.file(e.Desc)
	if err != nil {
		return nil, err
	}
	w := &Enum{Name: e.GoIdent.GoName, Proto: e}
	b.enums[e.Desc.FullName()] = w
	f.Enums = append(f.Enums, w)
	return w, w.fill()
}

func (w *Enum) fill() error {
	numbers, texts := make(map[uint32]bool), make(map[string]bool)
	for _, v := range w.Proto.Values {
		rules, _ := proto.GetExtension(v.Desc.Options(), optionsv1.E_Value).(*optionsv1.EnumValueRules)
		switch number, text := rules.GetSrpcNumber(), rules.GetText(); {
		case text == "" && w.Absent == nil && v.Desc.Number() == 0:
			w.Absent = v
		case text == "":
			return fmt.Errorf("%s has no text", v.Desc.FullName())
		case numbers[number] || texts[text]:
			return fmt.Errorf("%s: SRPC number %d or text %q is taken", v.Desc.FullName(), number, text)
		default:
			numbers[number], texts[text] = true, true
			w.Values = append(w.Values, EnumValue{v, number, text})
		}
	}
	return nil
}
