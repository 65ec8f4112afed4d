// Package console is the ConsoleService: byte pipes between a client and a VM's serial port, display or monitor.
package console

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// chunk is how much of the VM's output is sent in one message at most.
const chunk = 32 << 10

// VMs knows the VMs.
type VMs interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
}

// Service is the ConsoleService.
type Service struct {
	hypervisorv1.UnimplementedConsoleServiceServer
	VMs    VMs
	Driver hypervisor.Driver
}

var _ hypervisorv1.ConsoleServiceServer = (*Service)(nil)

// ConnectToVmSerialPort implements ConsoleService.
func (s *Service) ConnectToVmSerialPort(
	stream grpc.BidiStreamingServer[hypervisorv1.ConnectToVmSerialPortRequest, hypervisorv1.ConnectToVmSerialPortResponse],
) error {
	first, err := stream.Recv()
	if err != nil {
		return noFirst(err)
	}
	if first.GetPortNumber() != 0 {
		return fault.New(fault.InvalidArgument, "port_number: %d; there is only port 0", first.GetPortNumber())
	}
	info, err := s.running(first.GetVm())
	if err != nil {
		return err
	}
	port, err := s.Driver.OpenSerial(stream.Context(), info.GetUuid(), first.GetTakeover())
	if err != nil {
		return fault.Wrap(err, "vm %q: serial port", first.GetVm())
	}
	return pipe(stream.Context(), port, first.GetData(),
		func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err },
		func(p []byte) error { return stream.Send(&hypervisorv1.ConnectToVmSerialPortResponse{Data: p}) })
}

// ConnectToVmConsole implements ConsoleService.
func (s *Service) ConnectToVmConsole(
	stream grpc.BidiStreamingServer[hypervisorv1.ConnectToVmConsoleRequest, hypervisorv1.ConnectToVmConsoleResponse],
) error {
	first, err := stream.Recv()
	if err != nil {
		return noFirst(err)
	}
	info, err := s.running(first.GetVm())
	if err != nil {
		return err
	}
	if info.GetConsoleType() != hypervisorv1.ConsoleType_CONSOLE_TYPE_VNC {
		return fault.New(fault.FailedPrecondition, "vm %q: has no VNC console; change its console type while it is stopped", first.GetVm())
	}
	display, err := s.Driver.OpenDisplay(stream.Context(), info.GetUuid())
	if err != nil {
		return fault.Wrap(err, "vm %q: console", first.GetVm())
	}
	return pipe(stream.Context(), display, first.GetData(),
		func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err },
		func(p []byte) error { return stream.Send(&hypervisorv1.ConnectToVmConsoleResponse{Data: p}) })
}

func (s *Service) running(vm string) (*hypervisorv1.VmInfo, error) {
	info, err := s.VMs.Info(vm)
	if err != nil {
		return nil, err
	}
	if info.GetState() != hypervisorv1.State_STATE_RUNNING {
		return nil, fault.New(fault.FailedPrecondition, "vm %q: is not running", vm)
	}
	return info, nil
}

func noFirst(err error) error {
	if errors.Is(err, io.EOF) {
		return fault.New(fault.InvalidArgument, "vm: is missing; name the VM in the first message")
	}
	return err
}

// pipe copies both ways until either side ends. The device's end, and the client's end of sending followed by the device's end, are no errors.
func pipe(ctx context.Context, device io.ReadWriteCloser, head []byte, recv func() ([]byte, error), send func([]byte) error) error {
	stop := context.AfterFunc(ctx, func() { _ = device.Close() }) // wakes the reader below
	defer stop()
	defer device.Close() //nolint:errcheck // both directions have ended; there is nothing left to lose
	if len(head) > 0 {
		if _, err := device.Write(head); err != nil {
			return fault.As(fault.Unavailable, err, "device")
		}
	}
	go func() {
		for {
			data, err := recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					_ = device.Close() // the client has gone; wakes the reader below
				}
				return
			}
			if len(data) == 0 {
				continue
			}
			if _, err := device.Write(data); err != nil {
				return // the reader below sees the device's end too
			}
		}
	}()
	buf := make([]byte, chunk)
	for {
		n, err := device.Read(buf)
		if n > 0 {
			if err := send(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return ctx.Err() // nil if the device ended by itself
		}
	}
}
