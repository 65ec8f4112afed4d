package srpcshim

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// denied is the refusal that clients of the protocol compare with.
const denied = "access to method denied"

// Mux serves the SRPC methods of the services that are registered on it. It implements grpc.ServiceRegistrar. Register everything, then
// Check, then ServeConn.
type Mux struct {
	opts      Options
	secure    *tls.Config
	generated map[string]wire.Method // by full gRPC name
	streams   map[string]wire.Stream // by full gRPC name
	services  map[string]map[string]*method
	codecs    map[encoding]codec
	shared    shared
	// attendants watches the clients of calls that take their time.
	attendants attendants
	problems   []error
}

var _ grpc.ServiceRegistrar = (*Mux)(nil)

// method is a method that callers can name.
type method struct {
	wire.Method
	handler grpc.MethodHandler
	impl    any
	// open begins a call of a method with a dialogue of its own; stream is its handler if it streams on gRPC too.
	open   func(wire.Talk) wire.Dialogue
	stream *grpc.StreamDesc
}

// NewMux makes one without services.
func NewMux(o Options) *Mux {
	o.Limits = o.Limits.withDefaults()
	m := &Mux{
		opts: o, secure: o.TLS.Clone(), generated: make(map[string]wire.Method), streams: make(map[string]wire.Stream),
		services: make(map[string]map[string]*method), codecs: newCodecs(),
	}
	m.secure.ClientAuth = tls.RequireAndVerifyClientCert
	if o.OpenReads {
		m.secure.ClientAuth = tls.VerifyClientCertIfGiven
	}
	for _, w := range o.Methods {
		m.generated[w.FullMethod] = w
	}
	for _, w := range o.Streams {
		m.streams[w.FullMethod] = w
	}
	return m
}

// RegisterService implements grpc.ServiceRegistrar. Services and methods that the schema does not put on SRPC are left out. What is wrong
// is kept for Check.
func (m *Mux) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
	service, ok := d.(protoreflect.ServiceDescriptor)
	if err != nil || !ok {
		m.problem("service %s is not in the schema", desc.ServiceName)
		return
	}
	if handler := reflect.TypeOf(desc.HandlerType).Elem(); !reflect.TypeOf(impl).Implements(handler) {
		m.problem("service %s: %T does not implement %v", desc.ServiceName, impl, handler)
		return
	}
	handlers := make(map[string]grpc.MethodHandler)
	for _, h := range desc.Methods {
		handlers[h.MethodName] = h.Handler
	}
	streams := make(map[string]*grpc.StreamDesc)
	for i := range desc.Streams {
		streams[desc.Streams[i].StreamName] = &desc.Streams[i]
	}
	for i := range service.Methods().Len() {
		d := service.Methods().Get(i)
		m.register(d, &method{handler: handlers[string(d.Name())], stream: streams[string(d.Name())], impl: impl})
	}
}

func (m *Mux) register(d protoreflect.MethodDescriptor, entry *method) {
	rules, _ := proto.GetExtension(d.Options(), optionsv1.E_Method).(*optionsv1.MethodRules)
	srpc := rules.GetSrpc()
	if srpc == nil {
		return
	}
	name := string(d.Name())
	full := "/" + string(d.Parent().FullName()) + "/" + name
	if srpc.GetKind() == optionsv1.SrpcKind_SRPC_KIND_REQUEST_REPLY {
		generated, ok := m.generated[full]
		if !ok || entry.handler == nil {
			m.problem("%s is a request/reply method without generated code for SRPC; run make generate", full)
			return
		}
		entry.Method = generated
	} else if entry.handler != nil || entry.stream != nil {
		entry.open, entry.Files = m.streams[full].Open, m.streams[full].Files
	}
	entry.Service, entry.Name, entry.FullMethod = srpc.GetService(), name, full
	if m.services[entry.Service] == nil {
		m.services[entry.Service] = make(map[string]*method)
	}
	if m.services[entry.Service][name] != nil {
		m.problem("SRPC method %s.%s is there twice", entry.Service, name)
	}
	m.services[entry.Service][name] = entry
}

func (m *Mux) problem(format string, args ...any) {
	m.problems = append(m.problems, fault.New(fault.Internal, format, args...))
}

// Check returns what was wrong with the services registered.
func (m *Mux) Check() error { return fault.Wrap(errors.Join(m.problems...), "SRPC") }

// Names returns the methods, as Service.Method and in order, whose full gRPC name passes.
func (m *Mux) Names(pass func(fullMethod string) bool) []string {
	var all []string
	for service, methods := range m.services {
		for name, entry := range methods {
			if pass(entry.FullMethod) {
				all = append(all, service+"."+name)
			}
		}
	}
	slices.Sort(all)
	return all
}

// find returns the method of a method line, or the text that refuses it.
func (m *Mux) find(line string) (found *method, refusal string) {
	service, name, ok := strings.Cut(line, ".")
	if !ok || strings.Contains(name, ".") {
		return nil, "malformed Service.Method: " + line
	}
	methods, ok := m.services[service]
	if !ok {
		return nil, "unknown service: " + service
	}
	if found = methods[name]; found == nil {
		return nil, service + ": unknown method: " + name
	}
	return found, ""
}

// admit returns the method of a method line if the caller may call it and it is there, or the text that refuses it.
func (m *Mux) admit(ctx context.Context, line string) (admitted *method, refusal string) {
	found, refusal := m.find(line)
	if refusal != "" {
		return nil, refusal
	}
	if err := m.opts.MayCall(ctx, found.FullMethod); err != nil {
		who, _ := principal.From(ctx)
		m.opts.Log.LogAttrs(ctx, slog.LevelInfo, "call refused", slog.String("method", found.FullMethod), slog.String("user", who.Name), slog.Any("error", err))
		if fault.Is(err, fault.Unauthenticated) {
			return nil, denied
		}
		return nil, text(err)
	}
	if found.Request.New == nil && found.open == nil {
		return nil, line + " is not available over SRPC yet; call it over gRPC or REST"
	}
	return found, ""
}
