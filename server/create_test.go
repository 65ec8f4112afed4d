package server_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hyperplane-project/hyperplane/converters"
	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

func small() *hypervisorv1.CreateVmSpec {
	return &hypervisorv1.CreateVmSpec{VmInfo: &hypervisorv1.VmInfo{Hostname: "vm-1", MemoryInMib: 64, MilliCpus: 250}, DoNotStart: true}
}

// create creates a VM and returns it, or the error. image is sent in pieces after the spec.
func create(t *testing.T, s *servertest.Server, spec *hypervisorv1.CreateVmSpec, image []byte) (*hypervisorv1.VmInfo, error) {
	t.Helper()
	stream, err := hypervisorv1.NewVmServiceClient(s.DialSocket()).CreateVm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}); err != nil {
		t.Fatal(err)
	}
	for len(image) > 0 {
		n := min(len(image), 100_000)
		if stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_ImageData{ImageData: image[:n]}}) != nil {
			break // Recv says why
		}
		image = image[n:]
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if m.GetFinal() {
			return m.GetVmInfo(), nil
		}
	}
}

// nothingLeft checks that no VM, no file and no address is left of a failed creation.
func nothingLeft(t *testing.T, s *servertest.Server) {
	t.Helper()
	res, err := hypervisorv1.NewVmServiceClient(s.DialSocket()).GetVmInfos(t.Context(), &hypervisorv1.GetVmInfosRequest{})
	if err != nil || len(res.GetVmInfos()) > 0 {
		t.Errorf("VMs left: %v %v", res, err)
	}
	entries, err := os.ReadDir(filepath.Join(s.Config.StateDir, "volumes"))
	if err != nil || len(entries) != 1 { // the staging folder
		t.Errorf("files left: %v %v", entries, err)
	}
	vm, err := create(t, s, func() *hypervisorv1.CreateVmSpec {
		spec := small()
		spec.MinimumFreeBytes = 4096
		return spec
	}(), nil)
	if err != nil || vm.GetAddress().GetIpAddress() != "10.88.0.10" {
		t.Errorf("the first address was not given back: %v %v", vm, err)
	}
}

func TestImagesFromURLs(t *testing.T) {
	t.Parallel()
	data := content(3<<20, 9)
	dir := t.TempDir()
	qcow2, err := os.Create(filepath.Join(dir, "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer qcow2.Close()
	_, err = convertersall.Formats().Convert(t.Context(), converters.Source{Reader: raw.New(bytes.NewReader(data), int64(len(data)))},
		converters.Target{Format: "qcow2", Out: qcow2}, converters.Options{})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(web.Close)
	s := servertest.Start(t, nil)
	inside := filepath.Join(s.Config.StateDir, "images")
	if err := os.WriteFile(filepath.Join(inside, "disk.raw"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(dir, "secret.raw")
	if err := os.WriteFile(outside, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(inside, "link.raw")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		code codes.Code
	}{
		"qcow2 over http":    {web.URL + "/disk.qcow2", codes.OK},
		"raw file":           {"file://" + inside + "/disk.raw", codes.OK},
		"not found":          {web.URL + "/nothing", codes.NotFound},
		"outside":            {"file://" + outside, codes.PermissionDenied},
		"through a link":     {"file://" + inside + "/link.raw", codes.PermissionDenied},
		"through dots":       {"file://" + inside + "/../../secret", codes.NotFound},
		"unknown scheme":     {"ftp://host/x", codes.InvalidArgument},
		"nobody listens":     {"http://127.0.0.1:1/x", codes.Unavailable},
		"not a URL":          {"://", codes.InvalidArgument},
		"file of other host": {"file://other/x", codes.InvalidArgument},
	} {
		spec := small()
		spec.VmInfo.Hostname = strings.ReplaceAll(name, " ", "-")
		spec.VmInfo.ImageUrl, spec.MinimumFreeBytes = c.url, 1<<20
		vm, err := create(t, s, spec, nil)
		if status.Code(err) != c.code {
			t.Errorf("%s: %v, want %v", name, err, c.code)
			continue
		}
		if err != nil {
			continue
		}
		volume, err := os.ReadFile(filepath.Join(s.Config.StateDir, "volumes", vm.GetUuid(), "root"))
		if err != nil || len(volume) != len(data)+1<<20 || !bytes.Equal(volume[:len(data)], data) {
			t.Errorf("%s: the root volume is not the image with a MiB behind it (%d bytes, %v)", name, len(volume), err)
		}
	}
}

func TestBrokenCreationsLeaveNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*hypervisorv1.CreateVmSpec)
		image  []byte
		code   codes.Code
		want   string
	}{
		"image cut short":    {func(s *hypervisorv1.CreateVmSpec) { s.ImageDataSize = 5 << 20 }, make([]byte, 1<<20), codes.DataLoss, "of 5242880"},
		"no image":           {func(*hypervisorv1.CreateVmSpec) {}, nil, codes.InvalidArgument, "image_url"},
		"no memory":          {func(s *hypervisorv1.CreateVmSpec) { s.VmInfo.MemoryInMib = 0 }, nil, codes.InvalidArgument, "memory_in_mib"},
		"too much memory":    {func(s *hypervisorv1.CreateVmSpec) { s.VmInfo.MemoryInMib, s.DoNotStart = 1<<20, false }, nil, codes.ResourceExhausted, "memory"},
		"markup in the name": {func(s *hypervisorv1.CreateVmSpec) { s.VmInfo.Hostname = `<a>&"` }, nil, codes.InvalidArgument, "hostname"},
		"set by the host":    {func(s *hypervisorv1.CreateVmSpec) { s.VmInfo.Uuid = "x" }, nil, codes.InvalidArgument, "uuid"},
		"not built":          {func(s *hypervisorv1.CreateVmSpec) { s.VmInfo.ExtraKernelOptions = "quiet" }, nil, codes.Unimplemented, "extra_kernel_options"},
		"too much user data": {func(s *hypervisorv1.CreateVmSpec) { s.UserDataSize = 17 << 20 }, nil, codes.InvalidArgument, "user_data_size"},
		"no such storage":    {func(s *hypervisorv1.CreateVmSpec) { s.StorageIndices = []uint32{7} }, nil, codes.InvalidArgument, "storage_indices"},
		"no key":             {func(s *hypervisorv1.CreateVmSpec) { s.IdentityCertificate = []byte("x") }, nil, codes.InvalidArgument, "identity_certificate"},
		"image too long":     {func(s *hypervisorv1.CreateVmSpec) { s.ImageDataSize = 512 }, make([]byte, 1024), codes.InvalidArgument, "image_data"},
		"unknown subnet":     {func(s *hypervisorv1.CreateVmSpec) { s.VmInfo.SubnetId = "x" }, nil, codes.NotFound, "subnet"},
		"bad image":          {func(s *hypervisorv1.CreateVmSpec) { s.ImageDataSize = 1024 }, append([]byte("QFI\xfb"), make([]byte, 1020)...), codes.Unknown, ""},
		"many tags": {func(s *hypervisorv1.CreateVmSpec) {
			s.VmInfo.Tags = make(map[string]string)
			for i := range 10_000 {
				s.VmInfo.Tags[strings.Repeat("k", i%50+1)+string(rune('a'+i%26))+strings.Repeat("x", i/1300)] = "v"
			}
		}, nil, codes.InvalidArgument, "tags"},
		"disk not startable": {func(s *hypervisorv1.CreateVmSpec) {
			s.MinimumFreeBytes, s.DoNotStart = 4096, false
			s.VmInfo.Volumes = []*hypervisorv1.Volume{{Interface: hypervisorv1.VolumeInterface_VOLUME_INTERFACE_DFM}}
		}, nil, codes.Unimplemented, "dfm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, nil)
			spec := small()
			c.change(spec)
			_, err := create(t, s, spec, c.image)
			if err == nil || (c.code != codes.Unknown && status.Code(err) != c.code) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %v and %q", err, c.code, c.want)
			}
			nothingLeft(t, s)
		})
	}
}

func TestStatesAreRespected(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	vms := hypervisorv1.NewVmServiceClient(s.DialSocket())
	spec := small()
	spec.MinimumFreeBytes, spec.VmInfo.DestroyProtection = 4096, true
	vm, err := create(t, s, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	ref := vm.GetUuid()
	wrong := func(what string, err error) {
		t.Helper()
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v, want FailedPrecondition", what, err)
		}
	}
	_, err = vms.StopVm(t.Context(), &hypervisorv1.StopVmRequest{Vm: ref})
	wrong("stop of a stopped VM", err)
	_, err = vms.RebootVm(t.Context(), &hypervisorv1.RebootVmRequest{Vm: ref})
	wrong("reboot of a stopped VM", err)
	if _, err := vms.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: ref}); err != nil {
		t.Fatal(err)
	}
	_, err = vms.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: ref})
	wrong("start of a running VM", err)
	_, err = vms.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: ref})
	wrong("destroy of a protected VM", err)
	_, err = vms.DestroyVmAsync(t.Context(), &hypervisorv1.DestroyVmAsyncRequest{Vm: ref})
	wrong("async destroy of a protected VM", err)
	config := hypervisorv1.NewVmConfigurationServiceClient(s.DialSocket())
	_, err = config.ChangeVmSize(t.Context(), &hypervisorv1.ChangeVmSizeRequest{Vm: ref, MemoryInMib: 128})
	wrong("resize of a running VM", err)
	if _, err := vms.GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("unknown VM: %v", err)
	}
	if _, err := create(t, s, spec, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := vms.GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: "vm-1"}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a name that two VMs have: %v", err)
	}
}
