package parity_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// diskCases are those of how a VM's volumes are seen and where they lie.
func diskCases() map[string]unaryCase {
	return map[string]unaryCase{
		"ChangeVmVolumeInterfaces": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ChangeVmVolumeInterfacesRequest{
					Vm: w.vmWith(ctx, 4096), Interfaces: []hypervisorv1.VolumeInterface{0, hypervisorv1.VolumeInterface_VOLUME_INTERFACE_IDE},
				}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				v := w.info(ctx, req.(*hypervisorv1.ChangeVmVolumeInterfacesRequest).GetVm()).GetVolumes()
				if v[0].GetInterface() != 0 || v[1].GetInterface() != hypervisorv1.VolumeInterface_VOLUME_INTERFACE_IDE {
					t.Errorf("volumes: %v", v)
				}
			},
		},
		"ChangeVmVolumeStorageIndex": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ChangeVmVolumeStorageIndexRequest{Vm: w.vmWith(ctx, 4096), VolumeIndex: 1, StorageIndex: 1}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				res, err := hypervisorv1.NewVolumeServiceClient(w.cc).GetVmVolumeStorageConfiguration(ctx, &hypervisorv1.GetVmVolumeStorageConfigurationRequest{
					Vm: req.(*hypervisorv1.ChangeVmVolumeStorageIndexRequest).GetVm(),
				})
				if err != nil || len(res.GetStorageInfos()) != 2 || fmt.Sprint(res.GetVolumeStorageIndices()) != "[0 1]" {
					t.Errorf("storage: %v, %v", res, err)
				}
			},
		},
	}
}

// diskStreams are the stream methods of volumes.
func diskStreams() map[string]streamCase {
	return map[string]streamCase{"GetVmVolume": {volumeGRPC, volumeREST}}
}

// volumeRequests are those of a client that has an empty volume of 1 MiB, but for its first and last blocks.
func volumeRequests(vm string) (all []*hypervisorv1.GetVmVolumeRequest) {
	const order = 16
	zeros, other := sha512.Sum512(make([]byte, 1<<order)), sha512.Sum512(nil)
	all = []*hypervisorv1.GetVmVolumeRequest{{Vm: vm, VolumeIndex: 1, BlockOrder: order, IgnoreExtraFiles: true, BlockDigests: [][]byte{other[:]}}}
	for range 14 {
		all = append(all, &hypervisorv1.GetVmVolumeRequest{BlockDigests: [][]byte{zeros[:]}})
	}
	return append(all, &hypervisorv1.GetVmVolumeRequest{DigestsComplete: true})
}

// reading collects the answers: the first block, which differs, and the last, which the client does not have.
type reading map[uint64]int

func (r reading) take(m *hypervisorv1.GetVmVolumeResponse) (final bool, err error) {
	if len(m.GetData()) > 0 {
		r[m.GetBlockIndex()] += len(bytes.TrimLeft(m.GetData(), "x"))
	}
	if m.GetFinal() && (len(r) != 2 || r[0] != 1<<16 || r[15] != 1<<16) {
		return true, fmt.Errorf("blocks %v", r)
	}
	return m.GetFinal(), nil
}

func volumeGRPC(ctx context.Context, w *world) error {
	stream, err := hypervisorv1.NewVolumeServiceClient(w.cc).GetVmVolume(ctx)
	if err != nil {
		return err
	}
	for _, m := range volumeRequests(w.vmWith(ctx, 1<<20)) {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	for r := make(reading); ; {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if final, err := r.take(m); final || err != nil {
			return err
		}
	}
}

func volumeREST(ctx context.Context, w *world, r restTransport) error {
	var body bytes.Buffer
	for _, m := range volumeRequests(w.vmWith(ctx, 1<<20)) {
		line, err := protojson.Marshal(m)
		if err != nil {
			return err
		}
		body.Write(append(line, '\n'))
	}
	got := make(reading)
	return r.lines(ctx, http.MethodPost, "/v1/vms:readVolume", body.String(), func(line []byte) (bool, error) {
		m := new(hypervisorv1.GetVmVolumeResponse)
		if err := protojson.Unmarshal(json.RawMessage(line), m); err != nil {
			return false, err
		}
		return got.take(m)
	})
}
