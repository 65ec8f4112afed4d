package dialogue

import (
	"context"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// Hooks are what the wire asks of the server beside the handlers.
type Hooks struct {
	// Created is told the address of a VM that CreateVm or CopyVm made, before its client is: clients of this protocol must acknowledge it.
	Created func(ctx context.Context, address string)
	// VolumeLength returns how many bytes GetVmVolume's handler, which holds the VM, is going to read.
	VolumeLength func(ctx context.Context, vm string, index uint32) (uint64, error)
}

// Streams returns the stream methods.
func Streams(h Hooks) []wire.Stream {
	if h.Created == nil {
		h.Created = func(context.Context, string) {}
	}
	if h.VolumeLength == nil {
		h.VolumeLength = func(context.Context, string, uint32) (uint64, error) {
			return 0, fault.New(fault.Unimplemented, "the length of volumes is not known here")
		}
	}
	registerInodes()
	return []wire.Stream{
		{FullMethod: hypervisorv1.VmService_CreateVm_FullMethodName, Files: true, Open: openCreate(h)},
		{FullMethod: hypervisorv1.UserDataService_GetVmUserData_FullMethodName, Open: openGetUserData},
		{FullMethod: hypervisorv1.UserDataService_ReplaceVmUserData_FullMethodName, Open: openReplaceUserData},
		{FullMethod: hypervisorv1.MonitoringService_GetVmLastPatchLog_FullMethodName, Open: openPatchLog},
		{FullMethod: hypervisorv1.MonitoringService_GetVmVirtualiserLogFile_FullMethodName, Open: openLogFile},
		{FullMethod: hypervisorv1.MonitoringService_GetUpdates_FullMethodName, Open: openUpdates},
		{FullMethod: hypervisorv1.ConsoleService_ConnectToVmSerialPort_FullMethodName, Open: openSerialPort},
		{FullMethod: hypervisorv1.ConsoleService_ConnectToVmConsole_FullMethodName, Open: openConsole},
		{FullMethod: hypervisorv1.ConsoleService_ConnectToVmManager_FullMethodName, Open: openManager},
		{FullMethod: hypervisorv1.VolumeService_GetVmVolume_FullMethodName, Open: openVolume(h)},
		{FullMethod: hypervisorv1.VmTransferService_MigrateVm_FullMethodName, Open: openMigrate},
		{FullMethod: hypervisorv1.VmTransferService_CopyVm_FullMethodName, Open: openCopy(h)},
		{FullMethod: hypervisorv1.ImageService_ReplaceVmImage_FullMethodName, Files: true, Open: openReplaceImage},
		{FullMethod: hypervisorv1.ImageService_DebugVmImage_FullMethodName, Files: true, Open: openDebugImage},
		{FullMethod: hypervisorv1.ImageService_PatchVmImage_FullMethodName, Files: true, Open: openPatchImage},
		{FullMethod: hypervisorv1.ImageService_ScanVmRoot_FullMethodName, Open: openScan},
		{FullMethod: hypervisorv1.MonitoringService_TraceVmMetadata_FullMethodName, Open: openTrace},
		{FullMethod: hypervisorv1.MonitoringService_WatchDhcp_FullMethodName, Open: openWatchDhcp},
	}
}

// dialogue is a wire.Dialogue by the types of the handler's messages.
type dialogue[Q, R proto.Message] struct {
	recv func(Q) error
	send func(R) error
	end  func(failure error) error
}

func (d dialogue[Q, R]) Recv(m proto.Message) error {
	q, ok := m.(Q)
	if !ok {
		return fault.New(fault.Internal, "handler takes a %T", m)
	}
	return d.recv(q)
}

func (d dialogue[Q, R]) Send(m proto.Message) error {
	r, ok := m.(R)
	if !ok {
		return fault.New(fault.Internal, "handler sends a %T", m)
	}
	return d.send(r)
}

func (d dialogue[Q, R]) End(failure error) error { return d.end(failure) }

// asked reads a call's one request and hands it to the handler.
func asked[W any, Q proto.Message](t wire.Talk, convert func(W) (Q, error)) func(Q) error {
	taken := false
	return func(m Q) error {
		if taken {
			return io.EOF
		}
		taken = true
		var w W
		if err := t.Read(&w, false); err != nil {
			return err
		}
		q, err := convert(w)
		if err != nil {
			return fault.As(fault.InvalidArgument, err, "request")
		}
		proto.Merge(m, q)
		t.Attend()
		return nil
	}
}

// saidAll is the end of a call whose handler has said everything itself unless it failed; then sorry makes the last message.
func saidAll(t wire.Talk, sorry func(text string) any) func(error) error {
	return func(failure error) error {
		if failure == nil {
			return nil
		}
		return t.Write(sorry(t.Text(failure)))
	}
}

func join(first, second error) error {
	if first == nil {
		return second
	}
	return errors.Join(first, second)
}
