package rest

import (
	"context"
	"net/url"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/admin/v1"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

// queryParser guards the one place where the gateway library keeps the parser: a variable of its own, which all muxes share.
var queryParser sync.Once //nolint:gochecknoglobals // see above

// newGateway makes the REST routes of all services.
func newGateway(ctx context.Context, cc grpc.ClientConnInterface) (*runtime.ServeMux, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler()),
		runtime.WithIncomingHeaderMatcher(incoming),
	)
	queryParser.Do(func() { runtime.NewServeMux(runtime.SetQueryParameterParser(strictQuery{})) })
	for _, register := range []func() error{
		func() error {
			return hypervisorv1.RegisterVmServiceHandlerClient(ctx, mux, hypervisorv1.NewVmServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterVmTransferServiceHandlerClient(ctx, mux, hypervisorv1.NewVmTransferServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterPeerServiceHandlerClient(ctx, mux, hypervisorv1.NewPeerServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterVmConfigurationServiceHandlerClient(ctx, mux, hypervisorv1.NewVmConfigurationServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterVolumeServiceHandlerClient(ctx, mux, hypervisorv1.NewVolumeServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterImageServiceHandlerClient(ctx, mux, hypervisorv1.NewImageServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterLocalImageServiceHandlerClient(ctx, mux, hypervisorv1.NewLocalImageServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterApplianceServiceHandlerClient(ctx, mux, hypervisorv1.NewApplianceServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterSnapshotServiceHandlerClient(ctx, mux, hypervisorv1.NewSnapshotServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterUserDataServiceHandlerClient(ctx, mux, hypervisorv1.NewUserDataServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterIdentityServiceHandlerClient(ctx, mux, hypervisorv1.NewIdentityServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterConsoleServiceHandlerClient(ctx, mux, hypervisorv1.NewConsoleServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterMonitoringServiceHandlerClient(ctx, mux, hypervisorv1.NewMonitoringServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterNetworkServiceHandlerClient(ctx, mux, hypervisorv1.NewNetworkServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterHostServiceHandlerClient(ctx, mux, hypervisorv1.NewHostServiceClient(cc))
		},
		func() error {
			return hypervisorv1.RegisterVirtualisationServiceHandlerClient(ctx, mux, hypervisorv1.NewVirtualisationServiceClient(cc))
		},
		func() error {
			return exportv1.RegisterJobServiceHandlerClient(ctx, mux, exportv1.NewJobServiceClient(cc))
		},
		func() error {
			return exportv1.RegisterDiscoveryServiceHandlerClient(ctx, mux, exportv1.NewDiscoveryServiceClient(cc))
		},
		func() error {
			return exportv1.RegisterImageServiceHandlerClient(ctx, mux, exportv1.NewImageServiceClient(cc))
		},
		func() error {
			return adminv1.RegisterSystemServiceHandlerClient(ctx, mux, adminv1.NewSystemServiceClient(cc))
		},
	} {
		if err := register(); err != nil {
			return nil, err
		}
	}
	return mux, nil
}

// marshaler speaks JSON with the names of the schema. Unknown fields of a request are errors that name the field.
func marshaler() runtime.Marshaler {
	return &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{},
	}
}

// strictQuery refuses query parameters that the request has no field for; the gateway's own parser drops them.
type strictQuery struct{ standard runtime.DefaultQueryParser }

func (q strictQuery) Parse(m proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	for key := range values {
		if !hasField(m.ProtoReflect().Descriptor(), key) {
			return intercept.Status(fault.New(fault.InvalidArgument, "query parameter %q: %s has no such field", key, m.ProtoReflect().Descriptor().Name()))
		}
	}
	return q.standard.Parse(m, values, filter)
}

// hasField follows a dotted path, as far as messages go; a map takes any key ("tags[key]").
func hasField(d protoreflect.MessageDescriptor, path string) bool {
	name, rest, nested := strings.Cut(path, ".")
	name, _, _ = strings.Cut(name, "[")
	f := d.Fields().ByTextName(name)
	if f == nil {
		f = d.Fields().ByJSONName(name)
	}
	if f == nil {
		return false
	}
	return !nested || f.Message() == nil || hasField(f.Message(), rest)
}
