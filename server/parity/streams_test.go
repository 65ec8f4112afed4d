package parity_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// streamCase proves a stream method over gRPC and REST.
type streamCase struct {
	grpc func(ctx context.Context, w *world) error
	rest func(ctx context.Context, w *world, r restTransport) error
}

func streams() map[string]streamCase {
	cases := map[string]streamCase{
		"CreateVm":              {createGRPC, createREST},
		"GetUpdates":            {updatesGRPC, updatesREST},
		"ConnectToVmSerialPort": {serialGRPC, serialREST},
		"ConnectToVmConsole":    {consoleGRPC, consoleREST},
		"WatchJob":              {watchGRPC, watchREST},
	}
	maps.Copy(cases, hostStreams())
	maps.Copy(cases, imageStreams())
	maps.Copy(cases, virtualisationStreams())
	maps.Copy(cases, applianceStreams())
	maps.Copy(cases, transferStreams())
	maps.Copy(cases, peerStreams())
	maps.Copy(cases, networkStreams())
	maps.Copy(cases, diskStreams())
	maps.Copy(cases, consoleStreams())
	return cases
}

const imageSize = 3 << 20

// imageSpec is a VM made from streamed bytes.
func imageSpec() *hypervisorv1.CreateVmSpec {
	s := spec(false)
	s.MinimumFreeBytes, s.ImageDataSize = 1<<20, imageSize
	return s
}

func madeOfImage(m *hypervisorv1.CreateVmResponse) error {
	if v := m.GetVmInfo().GetVolumes(); len(v) != 1 || v[0].GetSize() != imageSize+1<<20 {
		return fmt.Errorf("volumes: %v", v)
	}
	return nil
}

func createGRPC(ctx context.Context, w *world) error {
	stream, err := w.vms().CreateVm(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: imageSpec()}}); err != nil {
		return err
	}
	for range 3 {
		piece := &hypervisorv1.CreateVmRequest_ImageData{ImageData: bytes.Repeat([]byte{7}, imageSize/3)}
		if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: piece}); err != nil {
			return err
		}
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetFinal() {
			return madeOfImage(m)
		}
	}
}

func createREST(ctx context.Context, _ *world, r restTransport) error {
	raw, err := protojson.Marshal(imageSpec())
	if err != nil {
		return err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.WriteField("spec", string(raw)); err != nil {
		return err
	}
	part, err := form.CreateFormFile("image", "disk.raw")
	if err != nil {
		return err
	}
	if _, err := part.Write(bytes.Repeat([]byte{7}, imageSize)); err != nil {
		return err
	}
	if err := form.Close(); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+"/v1/vms:upload", &body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %w", res.Status, answer, err)
	}
	m := new(hypervisorv1.CreateVmResponse)
	if err := protojson.Unmarshal(answer, m); err != nil {
		return err
	}
	return madeOfImage(m)
}

func updatesGRPC(ctx context.Context, w *world) error {
	stream, err := hypervisorv1.NewMonitoringServiceClient(w.cc).GetUpdates(ctx)
	if err != nil {
		return err
	}
	for range 2 { // the second request must be answered too
		if err := stream.Send(&hypervisorv1.GetUpdatesRequest{}); err != nil {
			return err
		}
	}
	vm, full, answered := w.vm(ctx, false), false, false
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		u := m.GetUpdate()
		full = full || u.GetFull()
		answered = answered || (!u.GetFull() && len(u.GetVms())+len(u.GetDeletedVms()) == 0 && u.GetHost() == nil && u.GetAddressPool() == nil)
		for _, v := range u.GetVms() {
			if full && v.GetAddress().GetIpAddress() == vm {
				if !answered {
					continue
				}
				return nil
			}
		}
		if full && answered {
			return nil
		}
	}
}

func updatesREST(ctx context.Context, w *world, r restTransport) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	vm := w.vm(ctx, false)
	return r.lines(ctx, http.MethodPost, "/v1/updates", `{}`, func(line []byte) (bool, error) {
		return strings.Contains(string(line), vm), nil
	})
}

// lines reads a stream of JSON lines until done says so.
func (t restTransport) lines(ctx context.Context, verb, path, body string, done func(line []byte) (bool, error)) error {
	req, err := http.NewRequestWithContext(ctx, verb, t.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	res, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	d := json.NewDecoder(res.Body)
	for {
		var line struct {
			Result json.RawMessage `json:"result"`
			Error  json.RawMessage `json:"error"`
		}
		if err := d.Decode(&line); err != nil {
			return err
		}
		if line.Error != nil {
			return fmt.Errorf("%s", line.Error)
		}
		if ok, err := done(line.Result); ok || err != nil {
			return err
		}
	}
}

func serialGRPC(ctx context.Context, w *world) error {
	stream, err := hypervisorv1.NewConsoleServiceClient(w.cc).ConnectToVmSerialPort(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.ConnectToVmSerialPortRequest{Vm: w.vm(ctx, true), Data: []byte("parity\n")}); err != nil {
		return err
	}
	return until("ECHO:parity", func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
}

func consoleGRPC(ctx context.Context, w *world) error {
	stream, err := hypervisorv1.NewConsoleServiceClient(w.cc).ConnectToVmConsole(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.ConnectToVmConsoleRequest{Vm: w.vm(ctx, true)}); err != nil {
		return err
	}
	return until("RFB 003.008\n", func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
}

func serialREST(ctx context.Context, w *world, r restTransport) error {
	ws, err := r.webSocket(ctx, "/v1/vms/"+w.vm(ctx, true)+"/serial")
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageBinary, []byte("parity\n")); err != nil {
		return err
	}
	return until("ECHO:parity", func() ([]byte, error) { _, data, err := ws.Read(ctx); return data, err })
}

func consoleREST(ctx context.Context, w *world, r restTransport) error {
	ws, err := r.webSocket(ctx, "/v1/vms/"+w.vm(ctx, true)+"/console")
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	return until("RFB 003.008\n", func() ([]byte, error) { _, data, err := ws.Read(ctx); return data, err })
}

func (t restTransport) webSocket(ctx context.Context, path string) (*websocket.Conn, error) {
	ws, res, err := websocket.Dial(ctx, t.base+path, &websocket.DialOptions{
		HTTPClient: t.client, HTTPHeader: http.Header{"Authorization": {"Bearer " + t.token}},
	})
	if res != nil && res.Body != nil {
		defer res.Body.Close()
	}
	return ws, err
}

// until reads until the text has come.
func until(text string, read func() ([]byte, error)) error {
	var got []byte
	for !strings.Contains(string(got), text) {
		data, err := read()
		if err != nil {
			return fmt.Errorf("after %q: %w", got, err)
		}
		got = append(got, data...)
	}
	return nil
}

func watchGRPC(ctx context.Context, w *world) error {
	if j := w.finished(ctx, w.job(ctx)); j.GetState() != exportv1.JobState_JOB_STATE_COMPLETED {
		return fmt.Errorf("job: %v", j)
	}
	return nil
}

func watchREST(ctx context.Context, w *world, r restTransport) error {
	err := r.lines(ctx, http.MethodGet, "/v1/jobs/"+w.job(ctx)+":watch", "", func(line []byte) (bool, error) {
		return strings.Contains(string(line), "JOB_STATE_COMPLETED"), nil
	})
	if errors.Is(err, io.EOF) {
		return errors.New("the stream ended before the job did")
	}
	return err
}
