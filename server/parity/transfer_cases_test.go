package parity_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// transferCases are those of VMs that come and go. Unary ones concern one host.
func transferCases() map[string]unaryCase {
	return map[string]unaryCase{
		"PrepareVmForMigration": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.PrepareVmForMigrationRequest{Vm: w.info(ctx, w.vm(ctx, false)).GetAddress().GetIpAddress(), Enable: true}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				back := proto.CloneOf(req.(*hypervisorv1.PrepareVmForMigrationRequest))
				if info := w.info(ctx, back.GetVm()); info.GetState() != hypervisorv1.State_STATE_MIGRATING || !info.GetUncommitted() {
					t.Errorf("prepared: %v", info)
				}
				_, err := w.vms().StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: back.GetVm()})
				if status.Code(err) != codes.FailedPrecondition {
					t.Errorf("start: %v", err)
				}
			},
		},
		"ImportLocalVm": {
			func(_ context.Context, w *world) proto.Message { return w.importing() },
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				info := w.infoByName(ctx, req.(*hypervisorv1.ImportLocalVmRequest).GetVmInfo().GetHostname())
				if info.GetState() != hypervisorv1.State_STATE_RUNNING || !info.GetUncommitted() || info.GetVolumes()[0].GetSize() != 1<<20 {
					t.Errorf("imported: %v", info)
				}
			},
		},
		"CommitImportedVm": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.CommitImportedVmRequest{Vm: w.imported(ctx).GetAddress().GetIpAddress()}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				if info := w.info(ctx, req.(*hypervisorv1.CommitImportedVmRequest).GetVm()); info.GetUncommitted() {
					t.Errorf("committed: %v", info)
				}
			},
		},
		"ExportLocalVm": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ExportLocalVmRequest{Vm: w.vm(ctx, false), VerificationCookie: w.cookie()}
			},
			func(ctx context.Context, t *testing.T, w *world, req, res proto.Message) {
				t.Helper()
				info := as(t, res, &hypervisorv1.ExportLocalVmResponse{}).GetVmInfo()
				if len(info.GetBridges()) != 1 || len(info.GetLocalVmInfo().GetVolumeLocations()) != 1 {
					t.Errorf("exported: %v", info)
				}
				if got := w.info(ctx, req.(*hypervisorv1.ExportLocalVmRequest).GetVm()).GetState(); got != hypervisorv1.State_STATE_EXPORTING {
					t.Errorf("state %v", got)
				}
			},
		},
	}
}

func (w *world) transfers() hypervisorv1.VmTransferServiceClient {
	return hypervisorv1.NewVmTransferServiceClient(w.cc)
}

func (w *world) cookie() []byte {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Config.StateDir, "root-cookie"))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// importing is a request for a VM of a file that is there.
func (w *world) importing() *hypervisorv1.ImportLocalVmRequest {
	w.t.Helper()
	name := fmt.Sprintf("imported-%d", time.Now().UnixNano())
	file := filepath.Join(w.Config.StateDir, name)
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return &hypervisorv1.ImportLocalVmRequest{
		VerificationCookie: w.cookie(), VolumeFilenames: []string{file}, VmInfo: &hypervisorv1.VmInfo{Hostname: name, MemoryInMib: 64, MilliCpus: 250},
	}
}

func (w *world) imported(ctx context.Context) *hypervisorv1.VmInfo {
	w.t.Helper()
	req := w.importing()
	if _, err := w.transfers().ImportLocalVm(ctx, req); err != nil {
		w.t.Fatal(err)
	}
	return w.infoByName(ctx, req.GetVmInfo().GetHostname())
}

func (w *world) infoByName(ctx context.Context, name string) *hypervisorv1.VmInfo {
	w.t.Helper()
	return w.info(ctx, name)
}

func transferStreams() map[string]streamCase {
	return map[string]streamCase{
		"CopyVm":    {grpc: copyGRPC, rest: copyREST},
		"MigrateVm": {grpc: migrateGRPC, rest: migrateREST},
	}
}

// journey is a VM that is to come from another host.
type journey struct {
	there *servertest.Server
	vm    *hypervisorv1.VmInfo
	token []byte
	from  string
}

func newJourney(ctx context.Context, w *world) (*journey, error) {
	here, there := servertest.StartPair(w.t, "Hypervisor.PrepareVmForMigration")
	source := &world{Server: here, t: w.t, cc: here.Dial(true), uuids: w.uuids}
	vm := source.info(ctx, source.vm(ctx, true))
	res, err := hypervisorv1.NewIdentityServiceClient(source.cc).GetVmAccessToken(ctx, &hypervisorv1.GetVmAccessTokenRequest{Vm: vm.GetUuid(), Lifetime: durationpb.New(time.Hour)})
	return &journey{there: there, vm: vm, token: res.GetToken(), from: here.Addr}, err
}

// arrived checks that the VM is there in a state.
func (j *journey) arrived(ctx context.Context, ref string, want hypervisorv1.State) error {
	res, err := hypervisorv1.NewVmServiceClient(j.there.Dial(true)).GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: ref})
	if err == nil && res.GetVmInfo().GetState() != want {
		err = fmt.Errorf("it is %v, not %v", res.GetVmInfo().GetState(), want)
	}
	return err
}

func (j *journey) copyRequest() *hypervisorv1.CopyVmRequest {
	return &hypervisorv1.CopyVmRequest{Vm: j.vm.GetUuid(), AccessToken: j.token, SourceHypervisor: j.from, VmInfo: &hypervisorv1.VmInfo{Hostname: "twin"}}
}

func (j *journey) migrateRequests() []proto.Message {
	start := &hypervisorv1.MigrateVmStart{Vm: j.vm.GetUuid(), AccessToken: j.token, SourceHypervisor: j.from}
	return []proto.Message{
		&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}},
		&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Commit{Commit: true}},
	}
}

func copyGRPC(ctx context.Context, w *world) error {
	j, err := newJourney(ctx, w)
	if err != nil {
		return err
	}
	stream, err := hypervisorv1.NewVmTransferServiceClient(j.there.Dial(true)).CopyVm(ctx, j.copyRequest())
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetFinal() {
			return j.arrived(ctx, m.GetIpAddress(), hypervisorv1.State_STATE_STOPPED)
		}
	}
}

func copyREST(ctx context.Context, w *world, _ restTransport) error {
	j, err := newJourney(ctx, w)
	if err != nil {
		return err
	}
	if err := j.post(ctx, "/v1/vms:copy", j.copyRequest()); err != nil {
		return err
	}
	return j.arrived(ctx, "twin", hypervisorv1.State_STATE_STOPPED)
}

func migrateGRPC(ctx context.Context, w *world) error {
	j, err := newJourney(ctx, w)
	if err != nil {
		return err
	}
	stream, err := hypervisorv1.NewVmTransferServiceClient(j.there.Dial(true)).MigrateVm(ctx)
	if err != nil {
		return err
	}
	for _, m := range j.migrateRequests() {
		if err := stream.SendMsg(m); err != nil {
			return err
		}
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetFinal() {
			return j.arrived(ctx, j.vm.GetUuid(), hypervisorv1.State_STATE_RUNNING)
		}
	}
}

func migrateREST(ctx context.Context, w *world, _ restTransport) error {
	j, err := newJourney(ctx, w)
	if err != nil {
		return err
	}
	if err := j.post(ctx, "/v1/vms:migrate", j.migrateRequests()...); err != nil {
		return err
	}
	return j.arrived(ctx, j.vm.GetUuid(), hypervisorv1.State_STATE_RUNNING)
}

// post sends messages, one after the other, and reads the answers to their end, which must not be an error.
func (j *journey) post(ctx context.Context, path string, messages ...proto.Message) error {
	var body bytes.Buffer
	for _, m := range messages {
		raw, err := protojson.Marshal(m)
		if err != nil {
			return err
		}
		body.Write(append(raw, '\n'))
	}
	client, base := j.there.HTTP()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, &body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+j.there.Token())
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || bytes.Contains(answer, []byte(`"error"`)) || !bytes.Contains(answer, []byte(`"final":true`)) {
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	return nil
}
