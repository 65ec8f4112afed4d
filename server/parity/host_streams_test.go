package parity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// hostStreams are the streams of user data and logs.
func hostStreams() map[string]streamCase {
	return map[string]streamCase{
		"GetVmUserData":           {getUserDataGRPC, getUserDataREST},
		"ReplaceVmUserData":       {replaceUserDataGRPC, replaceUserDataREST},
		"GetVmLastPatchLog":       {patchLogGRPC, patchLogREST},
		"GetVmVirtualiserLogFile": {logFileGRPC, logFileREST},
	}
}

// readAll reads the pieces of a stream to their end.
func readAll(recv func() ([]byte, error)) (string, error) {
	var text strings.Builder
	for {
		data, err := recv()
		if errors.Is(err, io.EOF) {
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
		text.Write(data)
	}
}

// replaceUserData uploads user data in two pieces.
func (w *world) replaceUserData(ctx context.Context, vm, text string) error {
	stream, err := w.userData().ReplaceVmUserData(ctx)
	if err != nil {
		return err
	}
	half := len(text) / 2
	for _, m := range []*hypervisorv1.ReplaceVmUserDataRequest{
		{Vm: vm, Size: uint64(len(text)), Data: []byte(text[:half])}, {Data: []byte(text[half:])},
	} {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	_, err = stream.CloseAndRecv()
	return err
}

// vmWithUserData makes a VM that was given each of the texts as user data.
func (w *world) vmWithUserData(ctx context.Context, texts ...string) string {
	w.t.Helper()
	vm := w.vm(ctx, false)
	for _, text := range texts {
		if err := w.replaceUserData(ctx, vm, text); err != nil {
			w.t.Fatal(err)
		}
	}
	return vm
}

func (w *world) userDataOf(ctx context.Context, vm string) string {
	w.t.Helper()
	stream, err := w.userData().GetVmUserData(ctx, &hypervisorv1.GetVmUserDataRequest{Vm: vm})
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := readAll(func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// vmWithLog makes a VM whose virtualiser has written a log file, and returns the file's name.
func (w *world) vmWithLog(ctx context.Context, text string) (vm, filename string) {
	w.t.Helper()
	vm = w.vm(ctx, true)
	filename = w.info(ctx, vm).GetUuid() + ".log"
	if err := os.WriteFile(filepath.Join(w.Config.Hypervisor.LogDir, filename), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return vm, filename
}

func differ(got, want string) error {
	if got != want {
		return fmt.Errorf("%d bytes, want %d", len(got), len(want))
	}
	return nil
}

// someText is longer than a piece.
func someText() string { return strings.Repeat("some text\n", 10000) }

func getUserDataGRPC(ctx context.Context, w *world) error {
	if got := w.userDataOf(ctx, w.vm(ctx, false)); got != "" {
		return fmt.Errorf("a new VM has %q", got)
	}
	return differ(w.userDataOf(ctx, w.vmWithUserData(ctx, someText())), someText())
}

func getUserDataREST(ctx context.Context, w *world, r restTransport) error {
	return r.expect(ctx, "/v1/vms/"+w.vmWithUserData(ctx, someText())+"/userData", someText())
}

// expect reads a stream of pieces and compares it with what it should be.
func (t restTransport) expect(ctx context.Context, path, want string) error {
	var got []byte
	return t.lines(ctx, http.MethodGet, path, "", func(line []byte) (bool, error) {
		var m struct {
			Data []byte `json:"data"`
		}
		err := json.Unmarshal(line, &m)
		got = append(got, m.Data...)
		return string(got) == want, err
	})
}

func replaceUserDataGRPC(ctx context.Context, w *world) error {
	vm := w.vm(ctx, false)
	if err := w.replaceUserData(ctx, vm, someText()); err != nil {
		return err
	}
	return differ(w.userDataOf(ctx, vm), someText())
}

func replaceUserDataREST(ctx context.Context, w *world, r restTransport) error {
	vm, encode := w.vm(ctx, false), base64.StdEncoding.EncodeToString
	body := fmt.Sprintf(`{"vm":%q,"size":"10","data":%q}{"data":%q}`, vm, encode([]byte("01234")), encode([]byte("56789")))
	if _, err := r.do(ctx, http.MethodPost, r.base+"/v1/vms:replaceUserData", strings.NewReader(body)); err != nil {
		return err
	}
	return differ(w.userDataOf(ctx, vm), "0123456789")
}

func patchLogGRPC(ctx context.Context, w *world) error {
	stream, err := w.monitoring().GetVmLastPatchLog(ctx, &hypervisorv1.GetVmLastPatchLogRequest{Vm: w.vm(ctx, false)})
	if err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil || m.GetLength() != 0 || m.GetPatchTime() != nil {
		return fmt.Errorf("answer %v: %w", m, err)
	}
	text, err := readAll(func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
	if err != nil {
		return err
	}
	return differ(text, "")
}

func patchLogREST(ctx context.Context, w *world, r restTransport) error {
	return r.expect(ctx, "/v1/vms/"+w.vm(ctx, false)+"/lastPatchLog", "")
}

func logFileGRPC(ctx context.Context, w *world) error {
	vm, filename := w.vmWithLog(ctx, someText())
	stream, err := w.monitoring().GetVmVirtualiserLogFile(ctx, &hypervisorv1.GetVmVirtualiserLogFileRequest{Vm: vm, Filename: filename})
	if err != nil {
		return err
	}
	text, err := readAll(func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
	if err != nil {
		return err
	}
	return differ(text, someText())
}

func logFileREST(ctx context.Context, w *world, r restTransport) error {
	vm, filename := w.vmWithLog(ctx, someText())
	return r.expect(ctx, "/v1/vms/"+vm+"/virtualiserLogs/"+filename, someText())
}
