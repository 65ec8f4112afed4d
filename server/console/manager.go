package console

import (
	"bytes"
	"context"
	"encoding/json"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// maxCommand is how long a line to the monitor may be, in bytes.
const maxCommand = 1 << 20

// ConnectToVmManager implements ConsoleService: the QEMU Machine Protocol (QEMU's docs/interop/qmp-spec.txt), a JSON object on each line. Lines of the client end
// in CR or LF and come back before their answers, ended like those by CR LF. The emulator's events are not part of it. Several clients may be connected at
// once. The stream ends when the VM stops, or after the answer to the last command of a client that sends no more.
func (s *Service) ConnectToVmManager(
	stream grpc.BidiStreamingServer[hypervisorv1.ConnectToVmManagerRequest, hypervisorv1.ConnectToVmManagerResponse],
) error {
	first, err := stream.Recv()
	if err != nil {
		return noFirst(err)
	}
	info, err := s.running(first.GetVm())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	events, err := s.Driver.Watch(ctx)
	if err != nil {
		return fault.Wrap(err, "vm %q: monitor", first.GetVm())
	}
	m := &manager{driver: s.Driver, uuid: info.GetUuid(), send: func(p []byte) error {
		return stream.Send(&hypervisorv1.ConnectToVmManagerResponse{Data: p})
	}}
	input := received(ctx, func() ([]byte, error) { r, err := stream.Recv(); return r.GetData(), err })
	return fault.Wrap(m.serve(ctx, first.GetData(), input, events), "vm %q: monitor", first.GetVm())
}

// received returns what a client sends. The channel is closed when no more comes.
func received(ctx context.Context, recv func() ([]byte, error)) <-chan []byte {
	all := make(chan []byte)
	go func() {
		defer close(all)
		for {
			data, err := recv()
			if err != nil {
				return // the stream's context tells a client that has gone from one that sends no more
			}
			select {
			case all <- data:
			case <-ctx.Done():
				return
			}
		}
	}()
	return all
}

// manager is a client's connection to a monitor.
type manager struct {
	driver hypervisor.Driver
	uuid   string
	send   func([]byte) error
	line   []byte // the beginning of a command
	long   bool   // the command is too long, and the rest of it is not kept
}

func (m *manager) serve(ctx context.Context, head []byte, input <-chan []byte, events <-chan hypervisor.Event) error {
	if err := m.greet(ctx); err != nil {
		return err
	}
	if err := m.feed(ctx, head); err != nil {
		return err
	}
	for {
		select {
		case data, more := <-input:
			if !more {
				return ctx.Err()
			}
			if err := m.feed(ctx, data); err != nil {
				return err
			}
		case ev, more := <-events:
			if !more {
				return ctx.Err()
			}
			if ev.UUID == m.uuid && (ev.Gone || !ev.State.Alive()) {
				return nil
			}
		}
	}
}

// greet says what a monitor says first.
func (m *manager) greet(ctx context.Context) error {
	answer, err := m.driver.MonitorCommand(ctx, m.uuid, []byte(`{"execute":"query-version"}`))
	if err != nil {
		return err
	}
	var version struct {
		Return json.RawMessage `json:"return"`
	}
	if err := json.Unmarshal(answer, &version); err != nil || version.Return == nil {
		return fault.New(fault.Internal, "the emulator does not say its version: %s", answer)
	}
	return m.answer(map[string]any{"QMP": map[string]any{"version": version.Return, "capabilities": []string{}}})
}

// feed takes bytes of the client and obeys each line that is complete.
func (m *manager) feed(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		end := bytes.IndexAny(data, "\r\n")
		part := data
		if end >= 0 {
			part, data = data[:end], data[end+1:]
		} else {
			data = nil
		}
		if m.long = m.long || len(m.line)+len(part) > maxCommand; !m.long {
			m.line = append(m.line, part...)
		}
		if end < 0 {
			continue
		}
		if err := m.obey(ctx); err != nil {
			return err
		}
		m.line, m.long = nil, false
	}
	return nil
}

// obey echoes a line and does what it says. An empty one, as between CR and LF, is none.
func (m *manager) obey(ctx context.Context) error {
	if m.long {
		return m.complain("the command is too long")
	}
	if len(bytes.TrimSpace(m.line)) == 0 {
		return nil
	}
	if err := m.send(append(bytes.Clone(m.line), "\r\n"...)); err != nil {
		return err
	}
	var command struct {
		Execute string          `json:"execute"`
		ID      json.RawMessage `json:"id"`
	}
	if json.Unmarshal(m.line, &command) == nil && command.Execute == "qmp_capabilities" {
		// The monitor's own negotiation is long over; that of this client has nothing to choose.
		done := map[string]any{"return": struct{}{}}
		if command.ID != nil {
			done["id"] = command.ID
		}
		return m.answer(done)
	}
	answer, err := m.driver.MonitorCommand(ctx, m.uuid, m.line)
	if fault.Is(err, fault.InvalidArgument) {
		return m.complain("JSON parse error: " + err.Error())
	}
	if err != nil {
		return err
	}
	return m.send(append(answer, "\r\n"...))
}

// complain answers as a monitor does to what it does not understand.
func (m *manager) complain(text string) error {
	return m.answer(map[string]any{"error": map[string]string{"class": "GenericError", "desc": text}})
}

func (m *manager) answer(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fault.As(fault.Internal, err, "answer")
	}
	return m.send(append(text, "\r\n"...))
}
