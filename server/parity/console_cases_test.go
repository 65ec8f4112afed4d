package parity_test

import (
	"context"

	"github.com/coder/websocket"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// consoleStreams are those of the consoles that are not for the VM's owners.
func consoleStreams() map[string]streamCase {
	return map[string]streamCase{"ConnectToVmManager": {managerGRPC, managerREST}}
}

const (
	managerCommand = `{"execute":"query-status","id":"parity"}` + "\r"
	managerAnswer  = `{"id":"parity","return":{"running":true,`
)

func managerGRPC(ctx context.Context, w *world) error {
	stream, err := hypervisorv1.NewConsoleServiceClient(w.cc).ConnectToVmManager(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.ConnectToVmManagerRequest{Vm: w.vm(ctx, true), Data: []byte(managerCommand)}); err != nil {
		return err
	}
	return until(managerAnswer, func() ([]byte, error) { m, err := stream.Recv(); return m.GetData(), err })
}

func managerREST(ctx context.Context, w *world, r restTransport) error {
	ws, err := r.webSocket(ctx, "/v1/vms/"+w.vm(ctx, true)+"/manager")
	if err != nil {
		return err
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, websocket.MessageBinary, []byte(managerCommand)); err != nil {
		return err
	}
	return until(managerAnswer, func() ([]byte, error) { _, data, err := ws.Read(ctx); return data, err })
}
