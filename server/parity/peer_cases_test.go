package parity_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// peerStreams are what hosts say to each other.
func peerStreams() map[string]streamCase {
	return map[string]streamCase{
		"SendVm": {sendGRPC, sendREST},
		"Tunnel": {tunnelGRPC, tunnelREST},
	}
}

// outgoing is a VM that is to leave, and the call that sends it.
type outgoing struct {
	*world
	vm      string
	token   []byte
	stream  hypervisorv1.PeerService_SendVmClient
	session []byte
	end     func()
}

// leaving makes a VM that runs, with a token.
func (w *world) leaving(ctx context.Context) (vm string, token []byte, err error) {
	vm = w.vm(ctx, true)
	res, err := hypervisorv1.NewIdentityServiceClient(w.cc).GetVmAccessToken(ctx, &hypervisorv1.GetVmAccessTokenRequest{Vm: vm, Lifetime: durationpb.New(time.Hour)})
	return vm, res.GetToken(), err
}

// send begins to send a VM.
func (w *world) send(ctx context.Context) (*outgoing, error) {
	o := &outgoing{world: w}
	var err error
	if o.vm, o.token, err = w.leaving(ctx); err != nil {
		return nil, err
	}
	ctx, o.end = context.WithCancel(ctx)
	if o.stream, err = hypervisorv1.NewPeerServiceClient(w.cc).SendVm(ctx); err != nil {
		return o, err
	}
	if err := o.stream.Send(&hypervisorv1.SendVmRequest{Vm: o.vm, AccessToken: o.token}); err != nil {
		return o, err
	}
	m, err := o.stream.Recv()
	if err == nil && (len(m.GetBegin().GetVolumeSizes()) != 1 || len(m.GetBegin().GetDescription()) == 0) {
		err = fmt.Errorf("begin: %v", m)
	}
	o.session = m.GetBegin().GetSession()
	return o, err
}

// perform tells the host that its caller is ready.
func (o *outgoing) perform() error {
	return o.stream.Send(&hypervisorv1.SendVmRequest{Part: &hypervisorv1.SendVmRequest_Prepared{Prepared: &hypervisorv1.SendVmPrepared{}}})
}

// stays waits until the VM, which was not taken, is in service again.
func (w *world) stays(ctx context.Context, vm string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for w.info(ctx, vm).GetState() != hypervisorv1.State_STATE_RUNNING {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func sendGRPC(ctx context.Context, w *world) error {
	o, err := w.send(ctx)
	if err != nil {
		return err
	}
	defer o.end()
	if got := w.info(ctx, o.vm).GetState(); got != hypervisorv1.State_STATE_MIGRATING {
		return fmt.Errorf("it is %v while it is sent", got)
	}
	if err := o.perform(); err != nil {
		return err
	}
	if m, err := o.stream.Recv(); err != nil || m.GetProgress().GetVolumesTotal() == 0 {
		return fmt.Errorf("progress: %v %w", m, err)
	}
	o.end()
	return w.stays(ctx, o.vm)
}

func sendREST(ctx context.Context, w *world, r restTransport) error {
	vm, token, err := w.leaving(ctx)
	if err != nil {
		return err
	}
	answer, err := r.peer(ctx, "/v1/peer/vms:send", &hypervisorv1.SendVmRequest{Vm: vm, AccessToken: token})
	if err != nil {
		return err
	}
	first := new(hypervisorv1.SendVmResponse)
	if err := answer.next(first); err != nil || len(first.GetBegin().GetSession()) == 0 {
		return errors.Join(fmt.Errorf("begin: %v", first), err)
	}
	if err := answer.body.Close(); err != nil {
		return err
	}
	return w.stays(ctx, vm)
}

func tunnelGRPC(ctx context.Context, w *world) error {
	o, err := w.send(ctx)
	if err != nil {
		return err
	}
	defer o.end()
	stream, err := hypervisorv1.NewPeerServiceClient(w.cc).Tunnel(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.TunnelRequest{Vm: o.vm, AccessToken: o.token, Session: o.session}); err != nil {
		return err
	}
	if err := o.perform(); err != nil {
		return err
	}
	if m, err := stream.Recv(); err != nil || m.GetStream() == hypervisorv1.TunnelStream_TUNNEL_STREAM_UNSPECIFIED {
		return fmt.Errorf("first: %v %w", m, err)
	}
	if m, err := stream.Recv(); err != nil || len(m.GetData()) == 0 {
		return fmt.Errorf("data: %v %w", m, err)
	}
	o.end()
	return w.stays(ctx, o.vm)
}

func tunnelREST(ctx context.Context, w *world, r restTransport) error {
	o, err := w.send(ctx)
	if err != nil {
		return err
	}
	defer o.end()
	if err := o.perform(); err != nil {
		return err
	}
	answer, err := r.peer(ctx, "/v1/peer/vms:tunnel", &hypervisorv1.TunnelRequest{Vm: o.vm, AccessToken: o.token, Session: o.session})
	if err != nil {
		return err
	}
	first := new(hypervisorv1.TunnelResponse)
	if err := answer.next(first); err != nil || first.GetStream() == hypervisorv1.TunnelStream_TUNNEL_STREAM_UNSPECIFIED {
		return errors.Join(fmt.Errorf("first: %v", first), err)
	}
	o.end()
	return errors.Join(answer.body.Close(), w.stays(ctx, o.vm))
}

// peerAnswer are the answers to a call of another host.
type peerAnswer struct {
	body   io.Closer
	reader *json.Decoder
}

func (a *peerAnswer) next(into proto.Message) error {
	var line struct {
		Result json.RawMessage `json:"result"`
		Error  json.RawMessage `json:"error"`
	}
	if err := a.reader.Decode(&line); err != nil {
		return err
	}
	if line.Error != nil {
		return fmt.Errorf("%s", line.Error)
	}
	return protojson.Unmarshal(line.Result, into)
}

// peer posts one message and does not wait for the end of the answers.
func (t restTransport) peer(ctx context.Context, path string, message proto.Message) (*peerAnswer, error) {
	raw, err := protojson.Marshal(message)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	res, err := t.client.Do(req) //nolint:bodyclose // peerAnswer has it
	if err != nil {
		return nil, err
	}
	return &peerAnswer{body: res.Body, reader: json.NewDecoder(res.Body)}, nil
}
