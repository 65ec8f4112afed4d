package server_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/servertest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// destinationRequest has the fields of all requests that a stock destination makes.
type destinationRequest struct {
	AccessToken                             []byte
	BlockOrder                              uint8
	DhcpTimeout                             time.Duration
	Enable, GetExtraFiles, IgnoreExtraFiles bool
	IpAddress                               net.IP
	NumBlocks                               uint64
	VolumeIndex                             uint
}

// recordedCall is what a stock destination asked, and whether the stock source said yes.
type recordedCall struct {
	method   string
	requests []destinationRequest
	refused  bool
}

// destinationCalls returns the calls of the destination in a recording: the last connection.
func destinationCalls(t *testing.T, name string) (calls []*recordedCall) {
	t.Helper()
	r := srpctest.ReadRecording(t, filepath.Join(srpctest.Recordings(t, ".."), name+".jsonl"))
	var in bytes.Buffer
	var decode *gob.Decoder
	for _, line := range r.Lines {
		if line.Conn != len(r.Connections) {
			continue
		}
		for _, p := range line.Decoded {
			switch {
			case p.Kind == "method":
				calls, decode = append(calls, &recordedCall{method: p.Text}), gob.NewDecoder(&in)
			case p.Kind != "message":
			case line.FromClient():
				in.Write(line.Data[p.At-line.Off:][:p.Len])
				var req destinationRequest
				if err := decode.Decode(&req); err != nil {
					t.Fatal(err)
				}
				calls[len(calls)-1].requests = append(calls[len(calls)-1].requests, req)
			default:
				fields, _ := p.Value.(map[string]any)
				if text, _ := fields["Error"].(string); text != "" {
					calls[len(calls)-1].refused = true
				}
			}
		}
	}
	return calls
}

// stockDestination says what a stock destination said, about a VM of ours.
type stockDestination struct {
	t      *testing.T
	source *servertest.Server
	c      *srpctest.Client
	vm     *hypervisorv1.VmInfo
	token  []byte
	have   [2][]byte // the volumes as far as they came
	data   []byte    // user data
}

// newStockDestination starts a source with a VM, and connects as a host of the Dominator ecosystem does: with a certificate that lists every method.
func newStockDestination(t *testing.T, running bool) *stockDestination {
	t.Helper()
	s := servertest.Start(t, nil)
	spec := small()
	spec.VmInfo.Hostname, spec.DoNotStart = "leaving", !running
	spec.ImageDataSize, spec.UserDataSize, spec.SecondaryVolumes = 512<<10, 29, []*hypervisorv1.Volume{{Size: 16 << 20}}
	vm, err := sendParts(t, s, specPart(spec), imagePart(content(512<<10, 7)), userDataPart(strings.Repeat("u", 29)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := hypervisorv1.NewIdentityServiceClient(s.DialSocket()).GetVmAccessToken(t.Context(),
		&hypervisorv1.GetVmAccessTokenRequest{Vm: vm.GetUuid(), Lifetime: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := srpctest.Dial(t.Context(), t, "tcp", s.Addr, srpctest.SecureGob, srpctest.Shows(s.ClientCertificate("hypervisor", "Hypervisor.*")))
	if err != nil {
		t.Fatal(err)
	}
	return &stockDestination{t: t, source: s, c: c, vm: vm, token: res.GetToken()}
}

// call makes a recorded call with our VM's address and token, and returns the error of the answer.
func (d *stockDestination) call(call *recordedCall) (text string, err error) {
	req := call.requests[0]
	req.IpAddress = net.ParseIP(d.vm.GetAddress().GetIpAddress()).To4()
	if req.AccessToken != nil {
		req.AccessToken = d.token
	}
	switch call.method {
	case "Hypervisor.GetVmInfo":
		var reply srpctest.GetVmInfoReply
		err = d.c.Call(call.method, &req, &reply)
		if err == nil && (reply.VmInfo.Hostname != "leaving" || len(reply.VmInfo.Volumes) != 2 || reply.VmInfo.Volumes[0].Size != 512<<10) {
			err = fmt.Errorf("the VM is told to be %+v", reply.VmInfo)
		}
		return reply.Error, err
	case "Hypervisor.GetVmVolume":
		return d.volume(&req, call.requests[1])
	case "Hypervisor.GetVmUserData":
		return d.userData(&req)
	default:
		var reply srpctest.ErrorReply
		err = d.c.Call(call.method, &req, &reply)
		return reply.Error, err
	}
}

// volume brings a volume as the recording says: with no blocks, or with those that have come.
func (d *stockDestination) volume(req *destinationRequest, blocks destinationRequest) (string, error) {
	var answer struct {
		Error      string
		ExtraFiles map[string][]byte
	}
	k, err := d.c.Converse("Hypervisor.GetVmVolume")
	if err = errors.Join(err, k.Send(req), k.Receive(&answer)); err != nil || answer.Error != "" {
		return answer.Error, err
	}
	have := d.have[req.VolumeIndex]
	if blocks.NumBlocks == 0 {
		have = nil
	} else if uint64(len(have))>>blocks.BlockOrder != blocks.NumBlocks {
		return "", fmt.Errorf("there are %d bytes for %d blocks", len(have), blocks.NumBlocks)
	}
	type getBlocks struct {
		BlockOrder uint8
		NumBlocks  uint64
	}
	if err := k.Send(&getBlocks{blocks.BlockOrder, blocks.NumBlocks}); err != nil {
		return "", err
	}
	for i := range blocks.NumBlocks {
		sum := sha512.Sum512(have[i<<blocks.BlockOrder:][:1<<blocks.BlockOrder])
		if _, err := k.Write(sum[:]); err != nil {
			return "", err
		}
	}
	for {
		var b struct {
			Error       string
			Index, Size uint64
		}
		if err := k.Receive(&b); err != nil || b.Error != "" || b.Size == 0 {
			d.have[req.VolumeIndex] = have
			return b.Error, err
		}
		data := make([]byte, b.Size)
		if _, err := io.ReadFull(k.In, data); err != nil {
			return "", err
		}
		at := int(b.Index << blocks.BlockOrder)
		have = append(have, make([]byte, max(0, at+len(data)-len(have)))...)
		copy(have[at:], data)
	}
}

func (d *stockDestination) userData(req *destinationRequest) (string, error) {
	if err := d.c.Start("Hypervisor.GetVmUserData"); err != nil {
		return "", err
	}
	var answer struct {
		Error  string
		Length uint64
	}
	if err := errors.Join(d.c.Send(req), d.c.Receive(&answer)); err != nil {
		return "", err
	}
	d.data = make([]byte, answer.Length)
	_, err := io.ReadFull(d.c.In, d.data)
	return answer.Error, err
}

// after checks the VM's state after a call.
func (d *stockDestination) after(call *recordedCall, destroyed bool, was hypervisorv1.State) hypervisorv1.State {
	d.t.Helper()
	want := was
	switch call.method {
	case "Hypervisor.StopVm":
		want = hypervisorv1.State_STATE_STOPPED
	case "Hypervisor.StartVm":
		want = hypervisorv1.State_STATE_RUNNING
	case "Hypervisor.PrepareVmForMigration":
		want = hypervisorv1.State_STATE_STOPPED
		if call.requests[0].Enable {
			want = hypervisorv1.State_STATE_MIGRATING
		}
	}
	st, info, err := state(d.t.Context(), d.source, d.vm.GetUuid())
	if destroyed {
		if status.Code(err) != codes.NotFound {
			d.t.Errorf("after %s: %v %v", call.method, st, err)
		}
		return want
	}
	if err != nil || st != want || info.GetUncommitted() != (want == hypervisorv1.State_STATE_MIGRATING) {
		d.t.Errorf("after %s: %v %v, want %v", call.method, info, err, want)
	}
	return want
}
