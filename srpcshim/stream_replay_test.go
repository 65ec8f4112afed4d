package srpcshim_test

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"testing"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// GetVmUserData says as much as the stock server did: 29 bytes, or 40600 over JSON.
func (s *services) GetVmUserData(r *hypervisorv1.GetVmUserDataRequest, stream grpc.ServerStreamingServer[hypervisorv1.GetVmUserDataResponse]) error {
	length := map[string]uint64{"10.99.1.1": 29, "10.99.1.2": 40600}[r.GetVm()]
	if err := stream.Send(&hypervisorv1.GetVmUserDataResponse{Length: length}); err != nil || length == 0 {
		return err
	}
	for _, piece := range []uint64{10, length - 10} {
		if err := stream.Send(&hypervisorv1.GetVmUserDataResponse{Data: make([]byte, piece)}); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceVmUserData takes all or, for the VM of a recording that is refused, nothing.
func (s *services) ReplaceVmUserData(stream grpc.ClientStreamingServer[hypervisorv1.ReplaceVmUserDataRequest, hypervisorv1.ReplaceVmUserDataResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetSize() != 49 {
		return fault.New(fault.PermissionDenied, "no access to resource")
	}
	var got int
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) && got == 49 {
			return stream.SendAndClose(&hypervisorv1.ReplaceVmUserDataResponse{})
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", got, err)
		}
		got += len(m.GetData())
	}
}

// CreateVm takes nothing of the upload.
func (s *services) CreateVm(stream grpc.BidiStreamingServer[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse]) error {
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	return fault.New(fault.NotFound, "address: %s not found in free pool", m.GetSpec().GetVmInfo().GetAddress().GetIpAddress())
}

// TestReplayStreams sends what stock clients sent, raw bytes included, and checks that the server says as much as the stock server did, in the
// same order, and that the connection is usable afterwards: uploads that were refused are taken, and so is what follows a JSON request.
func TestReplayStreams(t *testing.T) {
	t.Parallel()
	dir := srpctest.Recordings(t, "..")
	s := serve(t, answering(), nil)
	for _, name := range []string{
		"userdata-get", "userdata-get-none", "userdata-replace", "userdata-replace-not-owner", "json-userdata-get", "json-userdata-replace", "json-user-data-none",
		"vm-create-ip-taken", "vm-create-no-such-subnet",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := srpctest.ReadRecording(t, filepath.Join(dir, name+".jsonl"))
			last := len(r.Connections)
			c := s.dial(r.Connections[last-1].Path, r.Identity)
			for _, line := range r.Lines {
				switch {
				case line.Conn != last:
				case line.FromClient():
					if _, err := c.Write(line.Data); err != nil {
						t.Fatal(err)
					}
				default:
					hearStream(t, c, line.Decoded)
				}
			}
			if err := c.Ping(); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// hearStream reads what the stock server said in one call at one go.
func hearStream(t *testing.T, c *srpctest.Client, parts []srpctest.Part) {
	t.Helper()
	decoder := gob.NewDecoder(c.In)
	for _, p := range parts {
		var err error
		switch {
		case p.Kind == "message" && p.What == "gob":
			err = decoder.DecodeValue(reflect.Value{})
		case p.Kind == "payload":
			_, err = io.CopyN(io.Discard, c.In, int64(p.Len))
		case p.Kind == "raw": // what the stock server says wrongly
		default:
			hear(t, c, []srpctest.Part{p})
		}
		if err != nil {
			t.Fatalf("%s %s: %v", p.Kind, p.Type, err)
		}
	}
}
