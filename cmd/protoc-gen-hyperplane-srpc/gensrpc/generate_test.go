package gensrpc_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/hyperplane-project/hyperplane/cmd/protoc-gen-hyperplane-srpc/gensrpc"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	optionsv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/options/v1"
)

var update = flag.Bool("update", false, "write the golden files")

// generate runs the plugin on files that follow what they import, and generates for those named.
func generate(files []*descriptorpb.FileDescriptorProto, named ...string) (map[string]string, error) {
	p, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{FileToGenerate: named, ProtoFile: files})
	if err != nil {
		return nil, err
	}
	if err := gensrpc.Generate(p, "example.com/srpc"); err != nil {
		return nil, err
	}
	made := make(map[string]string)
	for _, f := range p.Response().GetFile() {
		made[filepath.Base(f.GetName())] = f.GetContent()
	}
	return made, nil
}

// closure returns files with all they import, imports first.
func closure(all ...protoreflect.FileDescriptor) []*descriptorpb.FileDescriptorProto {
	var list []*descriptorpb.FileDescriptorProto
	seen := make(map[string]bool)
	var visit func(f protoreflect.FileDescriptor)
	visit = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			visit(f.Imports().Get(i).FileDescriptor)
		}
		list = append(list, protodesc.ToFileDescriptorProto(f))
	}
	for _, f := range all {
		visit(f)
	}
	return list
}

// TestGeneratedCodeIsCurrent runs the plugin on the project's schema.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	t.Parallel()
	var schema []protoreflect.FileDescriptor
	var named []string
	pkg := hypervisorv1.File_hyperplane_hypervisor_v1_vm_proto.Package()
	protoregistry.GlobalFiles.RangeFilesByPackage(pkg, func(f protoreflect.FileDescriptor) bool {
		schema, named = append(schema, f), append(named, f.Path())
		return true
	})
	made, err := generate(closure(schema...), named...)
	if err != nil {
		t.Fatal(err)
	}
	kept := make(map[string]string)
	files, err := filepath.Glob("../../../gen/srpc/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		kept[filepath.Base(f)] = string(raw)
	}
	if diff := cmp.Diff(kept, made); diff != "" {
		t.Errorf("gen/srpc is not what the schema says; run make generate:\n%s", diff)
	}
}

// sample returns the sample schema, changed.
func sample(t *testing.T, change func(*descriptorpb.FileDescriptorProto)) []*descriptorpb.FileDescriptorProto {
	t.Helper()
	raw, err := os.ReadFile("testdata/sample.txtpb")
	if err != nil {
		t.Fatal(err)
	}
	f := new(descriptorpb.FileDescriptorProto)
	if err := prototext.Unmarshal(raw, f); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(f)
	}
	return append(closure(optionsv1.File_hyperplane_options_v1_options_proto, durationpb.File_google_protobuf_duration_proto,
		timestamppb.File_google_protobuf_timestamp_proto), f)
}

func TestGolden(t *testing.T) {
	t.Parallel()
	made, err := generate(sample(t, nil), "sample.proto")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sample.srpc.go", "methods.srpc.go"} {
		golden := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(golden, []byte(made[name]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), made[name]); diff != "" {
			t.Errorf("%s (go test -update writes it):\n%s", name, diff)
		}
	}
	again, err := generate(sample(t, nil), "sample.proto")
	if err != nil || !cmp.Equal(made, again) {
		t.Errorf("the second run made something else: %v", err)
	}
}

func rulesOf(m *descriptorpb.MethodDescriptorProto) *optionsv1.SrpcMethod {
	return proto.GetExtension(m.GetOptions(), optionsv1.E_Method).(*optionsv1.MethodRules).GetSrpc()
}

func setField(f *descriptorpb.FieldDescriptorProto, rules *optionsv1.FieldRules) {
	options := new(descriptorpb.FieldOptions)
	proto.SetExtension(options, optionsv1.E_Field, rules)
	f.Options = options
}

// TestRefusals changes the sample into schemas that SRPC can not carry.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*descriptorpb.FileDescriptorProto){
		"has no SRPC service name": func(f *descriptorpb.FileDescriptorProto) { rulesOf(f.GetService()[0].GetMethod()[0]).Service = "" },
		"streams, so it can not be SRPC_KIND_REQUEST_REPLY": func(f *descriptorpb.FileDescriptorProto) {
			f.GetService()[0].GetMethod()[0].ServerStreaming = new(true)
		},
		"is used as": func(f *descriptorpb.FileDescriptorProto) {
			f.GetService()[0].GetMethod()[0].InputType = new(".sample.DoResponse")
		},
		"oneof and optional fields": func(f *descriptorpb.FileDescriptorProto) {
			f.GetMessageType()[0].OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: new("o")}}
			f.GetMessageType()[0].GetField()[0].OneofIndex = proto.Int32(0)
		},
		"is no string, so it can not be SRPC_TYPE_IP": func(f *descriptorpb.FileDescriptorProto) {
			setField(f.GetMessageType()[0].GetField()[1], &optionsv1.FieldRules{SrpcType: optionsv1.SrpcType_SRPC_TYPE_IP})
		},
		"so it can not be SRPC_TYPE_UNWRAP": func(f *descriptorpb.FileDescriptorProto) {
			setField(f.GetMessageType()[0].GetField()[1], &optionsv1.FieldRules{SrpcType: optionsv1.SrpcType_SRPC_TYPE_UNWRAP})
		},
		"so it can not be embedded": func(f *descriptorpb.FileDescriptorProto) {
			setField(f.GetMessageType()[0].GetField()[1], &optionsv1.FieldRules{SrpcEmbedded: true})
		},
		"two fields that are Error on the wire": func(f *descriptorpb.FileDescriptorProto) {
			setField(f.GetMessageType()[1].GetField()[0], &optionsv1.FieldRules{SrpcName: "Error"})
		},
		"is taken": func(f *descriptorpb.FileDescriptorProto) {
			for _, v := range f.GetEnumType()[0].GetValue()[1:] {
				options := new(descriptorpb.EnumValueOptions)
				proto.SetExtension(options, optionsv1.E_Value, &optionsv1.EnumValueRules{Text: "same"})
				v.Options = options
			}
		},
		"contains itself": func(f *descriptorpb.FileDescriptorProto) {
			f.GetMessageType()[0].GetField()[4].TypeName = new(".sample.DoRequest")
		},
		"sample.Values is used as": func(f *descriptorpb.FileDescriptorProto) {
			f.GetMessageType()[1].GetField()[1].TypeName = new(".sample.Values")
		},
		"has no text": func(f *descriptorpb.FileDescriptorProto) { f.GetEnumType()[0].GetValue()[1].Options = nil },
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			if _, err := generate(sample(t, change), "sample.proto"); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}
