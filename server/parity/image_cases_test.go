package parity_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
)

// TestMain lets the test program be the server's child for guests' file systems.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == guestfs.Argument {
		os.Exit(guestfs.Main(context.Background(), os.Stdin, os.Stdout)) //nolint:forbidigo // the root of the child's work
	}
	os.Exit(m.Run())
}

const rootSize = 4 << 20

func (w *world) images() hypervisorv1.ImageServiceClient {
	return hypervisorv1.NewImageServiceClient(w.cc)
}

func (w *world) library() hypervisorv1.LocalImageServiceClient {
	return hypervisorv1.NewLocalImageServiceClient(w.cc)
}

// root makes an ext4 file system with a file /etc/version, as an image.
func (w *world) root(version string) []byte {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tree", "etc"), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tree", "etc", "version"), []byte(version), 0o644); err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(dir, "root.ext4")
	out, err := exec.CommandContext(w.t.Context(), "/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", filepath.Join(dir, "tree"), file, "4M").CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// localImage uploads an image and returns its name.
func (w *world) localImage(ctx context.Context, version string) string {
	w.t.Helper()
	stream, err := w.library().UploadLocalImage(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	spec := &hypervisorv1.LocalImageSpec{Name: uuid.NewString(), FilterLines: []string{"/home/"}}
	if err := stream.Send(&hypervisorv1.UploadLocalImageRequest{Part: &hypervisorv1.UploadLocalImageRequest_Spec{Spec: spec}}); err != nil {
		w.t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.UploadLocalImageRequest{Part: &hypervisorv1.UploadLocalImageRequest_Data{Data: w.root(version)}}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := stream.CloseAndRecv(); err != nil {
		w.t.Fatal(err)
	}
	return spec.GetName()
}

// imageVM makes a VM of an image, stopped or running.
func (w *world) imageVM(ctx context.Context, running bool) string {
	w.t.Helper()
	s := spec(false)
	s.VmInfo.ImageName, s.MinimumFreeBytes = w.localImage(ctx, "old"), 0
	vm := w.vmOf(ctx, w.cc, s)
	if running {
		if _, err := w.vms().StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: vm}); err != nil {
			w.t.Fatal(err)
		}
	}
	return vm
}

// versionOf returns the size of /etc/version in a stopped VM's root volume, which tells one version from another.
func (w *world) versionOf(ctx context.Context, vm string) (uint64, error) {
	res, err := w.images().ScanVmRoot(ctx, &hypervisorv1.ScanVmRootRequest{Vm: vm})
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(res.GetEntries(), func(e *hypervisorv1.FileEntry) bool { return e.GetPath() == "/etc/version" })
	if i < 0 {
		return 0, fmt.Errorf("entries: %v", res.GetEntries())
	}
	return res.GetEntries()[i].GetSize(), nil
}

// replaced gives a VM's root volume another image, and keeps the old one.
func (w *world) replaced(ctx context.Context) string {
	w.t.Helper()
	vm := w.imageVM(ctx, false)
	if err := w.replace(ctx, vm, w.localImage(ctx, "newer")); err != nil {
		w.t.Fatal(err)
	}
	return vm
}

func (w *world) replace(ctx context.Context, vm, image string) error {
	stream, err := w.images().ReplaceVmImage(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.ReplaceVmImageRequest{Vm: vm, Source: &hypervisorv1.ImageSource{ImageName: image}}); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil || m.GetFinal() {
			return err
		}
	}
}

// becameVersion checks the VM that a stream has changed: it runs, of the named image, whose version has size bytes.
func (w *world) becameVersion(ctx context.Context, vm, image string, size uint64) error {
	info := w.info(ctx, vm)
	if info.GetState() != hypervisorv1.State_STATE_RUNNING || info.GetImageName() != image || info.GetImageUrl() != "" {
		return fmt.Errorf("info: %v", info)
	}
	if _, err := w.vms().StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: vm}); err != nil {
		return err
	}
	if got, err := w.versionOf(ctx, vm); err != nil || got != size {
		return fmt.Errorf("version of %d bytes, want %d: %w", got, size, err)
	}
	return nil
}

// imageCases are those of images.
func imageCases() map[string]unaryCase {
	restored := func(ctx context.Context, w *world, vm string) error {
		_, err := w.images().RestoreVmImage(ctx, &hypervisorv1.RestoreVmImageRequest{Vm: vm})
		return err
	}
	return map[string]unaryCase{
		"ListLocalImages": {
			func(ctx context.Context, w *world) proto.Message {
				w.localImage(ctx, "x")
				return &hypervisorv1.ListLocalImagesRequest{PageSize: 1}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if l := as(t, res, &hypervisorv1.ListLocalImagesResponse{}); len(l.GetImages()) != 1 || l.GetImages()[0].GetSize() != rootSize {
					t.Errorf("images: %v", l)
				}
			},
		},
		"GetLocalImage": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.GetLocalImageRequest{Name: w.localImage(ctx, "x")}
			},
			func(_ context.Context, t *testing.T, _ *world, req, res proto.Message) {
				t.Helper()
				i := as(t, res, &hypervisorv1.GetLocalImageResponse{}).GetImage()
				if i.GetName() != req.(*hypervisorv1.GetLocalImageRequest).GetName() || i.GetSize() != rootSize || len(i.GetSha256()) != 32 ||
					i.GetSource() != "upload by admin" || i.GetOriginalFormat() != "raw" || i.GetAllocatedBytes() >= rootSize || i.GetCreatedOn() == nil {
					t.Errorf("image: %v", i)
				}
			},
		},
		"VerifyLocalImage": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.VerifyLocalImageRequest{Name: w.localImage(ctx, "x")}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				if i := as(t, res, &hypervisorv1.VerifyLocalImageResponse{}).GetImage(); len(i.GetSha256()) != 32 {
					t.Errorf("image: %v", i)
				}
			},
		},
		"DeleteLocalImage": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DeleteLocalImageRequest{Name: w.localImage(ctx, "x")}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				name := req.(*hypervisorv1.DeleteLocalImageRequest).GetName()
				if _, err := w.library().GetLocalImage(ctx, &hypervisorv1.GetLocalImageRequest{Name: name}); err == nil {
					t.Error("the image is still there")
				}
			},
		},
		"ScanVmRoot": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ScanVmRootRequest{Vm: w.imageVM(ctx, false), FilterLines: []string{"/lost"}}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				e := as(t, res, &hypervisorv1.ScanVmRootResponse{}).GetEntries()
				if len(e) != 3 || e[2].GetPath() != "/etc/version" || e[2].GetMode() != 0o100644 || len(e[2].GetSha512()) != 64 {
					t.Errorf("entries: %v", e)
				}
			},
		},
		"RestoreVmImage": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.RestoreVmImageRequest{Vm: w.replaced(ctx)}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				vm := req.(*hypervisorv1.RestoreVmImageRequest).GetVm()
				if got, err := w.versionOf(ctx, vm); err != nil || got != uint64(len("old")) {
					t.Errorf("version of %d bytes, %v", got, err)
				}
				if restored(ctx, w, vm) == nil {
					t.Error("restored a second time")
				}
			},
		},
		"DiscardVmOldImage": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DiscardVmOldImageRequest{Vm: w.replaced(ctx)}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				if restored(ctx, w, req.(*hypervisorv1.DiscardVmOldImageRequest).GetVm()) == nil {
					t.Error("the old image is still there")
				}
			},
		},
	}
}

// imageStreams are the streams of images.
func imageStreams() map[string]streamCase {
	return map[string]streamCase{
		"AddLocalImage":    {addImageGRPC, addImageREST},
		"UploadLocalImage": {uploadImageGRPC, uploadImageREST},
		"ReplaceVmImage":   {replaceImageGRPC, replaceImageREST},
		"PatchVmImage":     {patchImageGRPC, patchImageREST},
		"DebugVmImage":     {debugImageGRPC, debugImageREST},
	}
}

// imageFile puts an image into the host's image directory and returns a request to add it.
func (w *world) imageFile() *hypervisorv1.AddLocalImageRequest {
	w.t.Helper()
	name := uuid.NewString()
	file := filepath.Join(w.Config.ImageDir, name)
	if err := os.WriteFile(file, w.root("x"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return &hypervisorv1.AddLocalImageRequest{
		Spec: &hypervisorv1.LocalImageSpec{Name: name}, Source: &hypervisorv1.AddLocalImageRequest_Url{Url: "file://" + file},
	}
}

func (w *world) isThere(ctx context.Context, name string) error {
	_, err := w.library().VerifyLocalImage(ctx, &hypervisorv1.VerifyLocalImageRequest{Name: name})
	return err
}

func addImageGRPC(ctx context.Context, w *world) error {
	req := w.imageFile()
	stream, err := w.library().AddLocalImage(ctx, req)
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetImage() != nil {
			return w.isThere(ctx, req.GetSpec().GetName())
		}
	}
}

func addImageREST(ctx context.Context, w *world, r restTransport) error {
	req := w.imageFile()
	body, err := protojson.Marshal(req)
	if err != nil {
		return err
	}
	err = r.lines(ctx, http.MethodPost, "/v1/images", string(body), func(line []byte) (bool, error) {
		return strings.Contains(string(line), `"sha256"`), nil
	})
	return errors.Join(err, w.isThere(ctx, req.GetSpec().GetName()))
}

func uploadImageGRPC(ctx context.Context, w *world) error {
	return w.isThere(ctx, w.localImage(ctx, "x"))
}

func uploadImageREST(ctx context.Context, w *world, r restTransport) error {
	name := uuid.NewString()
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"spec": {"name": %q}}`+"\n", name)
	for piece := range slices.Chunk(w.root("x"), 1<<20) {
		fmt.Fprintf(&body, `{"data": %q}`+"\n", base64.StdEncoding.EncodeToString(piece))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+"/v1/images:upload", &body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct{ Image struct{ Name string } }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Image.Name != name {
		return fmt.Errorf("%s %v: %w", res.Status, answer, err)
	}
	return w.isThere(ctx, name)
}

func replaceImageGRPC(ctx context.Context, w *world) error {
	vm, image := w.imageVM(ctx, true), w.localImage(ctx, "newer")
	if err := w.replace(ctx, vm, image); err != nil {
		return err
	}
	return w.becameVersion(ctx, vm, image, uint64(len("newer")))
}

// final says whether a line is the last answer.
func final(line []byte) (bool, error) {
	var m struct{ Final bool }
	err := json.Unmarshal(line, &m)
	return m.Final, err
}

// replaceImageREST sends the image in the body.
func replaceImageREST(ctx context.Context, w *world, r restTransport) error {
	vm, raw := w.imageVM(ctx, true), w.root("newer")
	body := fmt.Sprintf(`{"vm": %q, "source": {"image_data_size": %d}}`+"\n", vm, len(raw))
	for piece := range slices.Chunk(raw, 1<<20) {
		body += fmt.Sprintf(`{"image_data": %q}`+"\n", base64.StdEncoding.EncodeToString(piece))
	}
	if err := r.lines(ctx, http.MethodPost, "/v1/vms:replaceImage", body, final); err != nil {
		return err
	}
	return w.becameVersion(ctx, vm, "", uint64(len("newer")))
}

func patchImageGRPC(ctx context.Context, w *world) error {
	vm, image := w.imageVM(ctx, true), w.localImage(ctx, "patched")
	stream, err := w.images().PatchVmImage(ctx, &hypervisorv1.PatchVmImageRequest{Vm: vm, ImageName: image})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetFinal() {
			return w.wasPatched(ctx, vm, image)
		}
	}
}

func (w *world) wasPatched(ctx context.Context, vm, image string) error {
	stream, err := hypervisorv1.NewMonitoringServiceClient(w.cc).GetVmLastPatchLog(ctx, &hypervisorv1.GetVmLastPatchLogRequest{Vm: vm})
	if err != nil {
		return err
	}
	log, err := readAll(func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
	if err != nil || !strings.Contains(log, "write /etc/version\n") {
		return fmt.Errorf("log %q: %w", log, err)
	}
	return w.becameVersion(ctx, vm, image, uint64(len("patched")))
}

func patchImageREST(ctx context.Context, w *world, r restTransport) error {
	vm, image := w.imageVM(ctx, true), w.localImage(ctx, "patched")
	if err := r.lines(ctx, http.MethodPost, "/v1/vms/"+vm+":patchImage", `{"image_name": "`+image+`"}`, final); err != nil {
		return err
	}
	return w.wasPatched(ctx, vm, image)
}

func debugImageGRPC(ctx context.Context, w *world) error {
	vm := w.imageVM(ctx, true)
	stream, err := w.images().DebugVmImage(ctx)
	if err != nil {
		return err
	}
	source := &hypervisorv1.ImageSource{ImageName: w.localImage(ctx, "debug")}
	if err := stream.Send(&hypervisorv1.DebugVmImageRequest{Vm: vm, Source: source}); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetFinal() {
			return w.isDebugged(ctx, vm)
		}
	}
}

// isDebugged checks that a VM is debugged, and that it is what it was when that has ended.
func (w *world) isDebugged(ctx context.Context, vm string) error {
	info := w.info(ctx, vm)
	if info.GetState() != hypervisorv1.State_STATE_DEBUGGING {
		return fmt.Errorf("info: %v", info)
	}
	if _, err := w.vms().StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: vm}); err != nil {
		return err
	}
	return w.becameVersion(ctx, vm, info.GetImageName(), uint64(len("old")))
}

func debugImageREST(ctx context.Context, w *world, r restTransport) error {
	vm := w.imageVM(ctx, false)
	body := fmt.Sprintf(`{"vm": %q, "source": {"image_name": %q}}`, vm, w.localImage(ctx, "debug"))
	if err := r.lines(ctx, http.MethodPost, "/v1/vms:debugImage", body, final); err != nil {
		return err
	}
	return w.isDebugged(ctx, vm)
}
