// Command protoc-gen-hyperplane-srpc is a protoc plugin: it makes the structs that travel over SRPC, their conversion to and from the proto
// messages, and the table of request/reply methods, from the options in hyperplane/options/v1.
package main

import (
	"flag"

	"google.golang.org/protobuf/compiler/protogen"

	"github.com/hyperplane-project/hyperplane/cmd/protoc-gen-hyperplane-srpc/gensrpc"
)

func main() {
	var flags flag.FlagSet
	importPath := flags.String("import_path", "github.com/hyperplane-project/hyperplane/gen/srpc", "Go import path of the generated package")
	protogen.Options{ParamFunc: flags.Set}.Run(func(p *protogen.Plugin) error {
		return gensrpc.Generate(p, protogen.GoImportPath(*importPath))
	})
}
