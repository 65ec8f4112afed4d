package monitor

import (
	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// MetadataTrace sees which paths guests read from the metadata service.
type MetadataTrace interface {
	// Trace returns the paths that a VM's guest reads until stop is called. The channel is closed if its reader is too slow.
	Trace(uuid string) (paths <-chan string, stop func())
}

// TraceVmMetadata implements MonitoringService. The VM may be in any state. The stream ends with its destruction.
func (s *Service) TraceVmMetadata(
	req *hypervisorv1.TraceVmMetadataRequest, stream grpc.ServerStreamingServer[hypervisorv1.TraceVmMetadataResponse],
) error {
	_, changes := s.Feed.Subscribe(0) // before the VM is looked up, so that its end is seen
	defer changes.Close()
	info, err := s.VMs.Info(req.GetVm())
	if err != nil {
		return err
	}
	paths, stop := s.Metadata.Trace(info.GetUuid())
	defer stop()
	if err := stream.SendHeader(nil); err != nil { // the caller may wait for it before it starts the VM
		return err
	}
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-s.Draining:
			return fault.New(fault.Unavailable, "the server is shutting down; trace again when it is back")
		case path, ok := <-paths:
			if !ok {
				return fault.New(fault.ResourceExhausted, "vm %q: the guest asks faster than the trace is read", req.GetVm())
			}
			if err := stream.Send(&hypervisorv1.TraceVmMetadataResponse{Line: path}); err != nil {
				return err
			}
		case <-changes.Ready():
			if len(changes.Take().GetDeletedVms()) == 0 {
				continue
			}
			// A VM that has only moved to another address is told as a deletion too.
			if _, err := s.VMs.Info(info.GetUuid()); fault.Is(err, fault.NotFound) {
				return sayDestroyed(paths, stream)
			}
		}
	}
}

// sayDestroyed sends what is left and the two lines that clients of old expect at the end.
func sayDestroyed(paths <-chan string, stream grpc.ServerStreamingServer[hypervisorv1.TraceVmMetadataResponse]) error {
	last := []string{"VM destroyed", ""}
	for len(paths) > 0 {
		last = append([]string{<-paths}, last...)
	}
	for _, line := range last {
		if err := stream.Send(&hypervisorv1.TraceVmMetadataResponse{Line: line}); err != nil {
			return err
		}
	}
	return nil
}
