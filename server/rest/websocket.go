package rest

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/coder/websocket"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// maxFrame bounds a message from the client.
const maxFrame = 64 << 10

// pipe is a byte stream to a VM.
type pipe struct {
	send func([]byte) error
	recv func() ([]byte, error)
	done func() error // the client will send no more
}

// serial connects a WebSocket to a VM's serial port; binary messages are bytes. The query parameter takeover=true ends another connection.
func (h handlers) serial(w http.ResponseWriter, r *http.Request) {
	h.bridge(w, r, func(ctx context.Context) (pipe, error) {
		stream, err := hypervisorv1.NewConsoleServiceClient(h.Channel).ConnectToVmSerialPort(ctx)
		if err != nil {
			return pipe{}, err
		}
		first := &hypervisorv1.ConnectToVmSerialPortRequest{Vm: r.PathValue("vm"), Takeover: r.URL.Query().Get("takeover") == "true"}
		return pipe{
			send: func(p []byte) error { return stream.Send(&hypervisorv1.ConnectToVmSerialPortRequest{Data: p}) },
			recv: func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err },
			done: stream.CloseSend,
		}, stream.Send(first)
	})
}

// display connects a WebSocket to a VM's VNC server; binary messages are RFB bytes, as noVNC sends them.
func (h handlers) display(w http.ResponseWriter, r *http.Request) {
	h.bridge(w, r, func(ctx context.Context) (pipe, error) {
		stream, err := hypervisorv1.NewConsoleServiceClient(h.Channel).ConnectToVmConsole(ctx)
		if err != nil {
			return pipe{}, err
		}
		return pipe{
			send: func(p []byte) error { return stream.Send(&hypervisorv1.ConnectToVmConsoleRequest{Data: p}) },
			recv: func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err },
			done: stream.CloseSend,
		}, stream.Send(&hypervisorv1.ConnectToVmConsoleRequest{Vm: r.PathValue("vm")})
	})
}

// manager connects a WebSocket to a VM's monitor; messages are lines of the QEMU Machine Protocol, or parts of them.
func (h handlers) manager(w http.ResponseWriter, r *http.Request) {
	h.bridge(w, r, func(ctx context.Context) (pipe, error) {
		stream, err := hypervisorv1.NewConsoleServiceClient(h.Channel).ConnectToVmManager(ctx)
		if err != nil {
			return pipe{}, err
		}
		return pipe{
			send: func(p []byte) error { return stream.Send(&hypervisorv1.ConnectToVmManagerRequest{Data: p}) },
			recv: func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err },
			done: stream.CloseSend,
		}, stream.Send(&hypervisorv1.ConnectToVmManagerRequest{Vm: r.PathValue("vm")})
	})
}

// bridge upgrades the request and copies both ways. Pages of other origins are refused by the WebSocket library.
func (h handlers) bridge(w http.ResponseWriter, r *http.Request, open func(context.Context) (pipe, error)) {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(r.Context(), outgoing(r)))
	defer cancel()
	p, err := open(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		fail(w, r, err)
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		return // Accept has answered
	}
	ws.SetReadLimit(maxFrame)
	go func() {
		defer cancel()
		for {
			_, data, err := ws.Read(ctx)
			if err != nil || p.send(data) != nil {
				_ = p.done() // the stream ends with ctx in any case
				return
			}
		}
	}()
	for {
		data, err := p.recv()
		if err == nil {
			err = ws.Write(ctx, websocket.MessageBinary, data)
		}
		if err != nil {
			code, reason := websocket.StatusNormalClosure, ""
			if s, ok := status.FromError(err); ok && !errors.Is(err, io.EOF) {
				code, reason = websocket.StatusInternalError, s.Message()
			}
			_ = ws.Close(code, reason[:min(len(reason), 120)]) // 123 bytes is what a close frame holds
			return
		}
	}
}
