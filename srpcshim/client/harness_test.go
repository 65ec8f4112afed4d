package client_test

import (
	"bytes"
	"crypto/sha512"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/client"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

const address = "10.99.1.20"

func token() []byte { return bytes.Repeat([]byte{7}, 32) }

// content is size bytes that repeat nowhere near.
func content(size int) []byte {
	b := make([]byte, 0, size+64)
	for sum := sha512.Sum512(nil); len(b) < size; sum = sha512.Sum512(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:size]
}

// site is a peer and what a host needs to call it.
type site struct {
	t *testing.T
	*fakepeer.Authority
	peer *fakepeer.Peer
}

// newSite starts a peer with a VM that is stopped, with two volumes and user data.
func newSite(t *testing.T, change func(*fakepeer.Options)) *site {
	t.Helper()
	s := &site{t: t, Authority: fakepeer.NewAuthority(t)}
	o := fakepeer.Options{
		Certificate: s.Peer(), Trust: s.Pool, Token: token(), UserData: []byte("#!/bin/sh\necho hello\n"), Volumes: [][]byte{content(1<<20 + 512), content(64 << 10)},
		VM: srpctest.VmInfo{
			Address:  srpctest.Address{IpAddress: net.ParseIP(address), MacAddress: "52:54:0a:63:01:14"},
			Hostname: "src1", MemoryInMiB: 16, MilliCPUs: 100, OwnerUsers: []string{"alice"}, State: fakepeer.Stopped, SubnetId: "net1", Tags: map[string]string{"env": "test"},
		},
	}
	if change != nil {
		change(&o)
	}
	s.peer = fakepeer.Start(t, o)
	return s
}

// dial connects with a certificate that lists everything.
func (s *site) dial() *client.Conn {
	s.t.Helper()
	c, err := client.Dial(s.t.Context(), client.Config{Address: s.peer.Addr, TLS: s.config(s.Client("host", "Hypervisor.*"))})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() }) // a test may have closed it
	return c
}

func (s *site) config(cert tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: s.Pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}

// info calls GetVmInfo.
func info(t *testing.T, c grpc.ClientConnInterface, vm string) (*hypervisorv1.VmInfo, error) {
	t.Helper()
	res, err := hypervisorv1.NewVmServiceClient(c).GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: vm})
	return res.GetVmInfo(), err
}

// fetch brings what is here to the content of a volume.
func fetch(t *testing.T, c grpc.ClientConnInterface, req *hypervisorv1.GetVmVolumeRequest, here []byte) (is []byte, came int, err error) {
	t.Helper()
	stream, err := hypervisorv1.NewVolumeServiceClient(c).GetVmVolume(t.Context())
	if err != nil {
		return nil, 0, err
	}
	sent := make(chan error, 1)
	go func() { sent <- sendDigests(stream, req, here) }()
	defer func() { err = errors.Join(err, <-sent) }()
	is = slices.Clone(here)
	last, at := ^uint64(0), 0
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil, came, err
		}
		if len(m.GetExtraFiles()) > 0 {
			return nil, came, errors.New("there are extra files")
		}
		if m.GetBlockIndex() != last {
			last, at = m.GetBlockIndex(), int(m.GetBlockIndex()<<req.GetBlockOrder())
		}
		came += len(m.GetData())
		is = append(is, make([]byte, max(0, at+len(m.GetData())-len(is)))...)
		at += copy(is[at:], m.GetData())
		if m.GetFinal() {
			_, err := stream.Recv()
			if !errors.Is(err, io.EOF) {
				t.Errorf("after the end: %v", err)
			}
			return is, came, nil
		}
	}
}

// sendDigests sends digests in two messages.
func sendDigests(stream hypervisorv1.VolumeService_GetVmVolumeClient, req *hypervisorv1.GetVmVolumeRequest, here []byte) error {
	var digests [][]byte
	for size := 1 << req.GetBlockOrder(); len(here) >= size; here = here[size:] {
		sum := sha512.Sum512(here[:size])
		digests = append(digests, sum[:])
	}
	half := len(digests) / 2
	req.BlockDigests = digests[:half]
	if stream.Send(req) != nil {
		return nil //nolint:nilerr // the receiver learns why
	}
	if stream.Send(&hypervisorv1.GetVmVolumeRequest{BlockDigests: digests[half:], DigestsComplete: true}) != nil {
		return nil //nolint:nilerr // the receiver learns why
	}
	return stream.CloseSend()
}

func volumeRequest(index uint32) *hypervisorv1.GetVmVolumeRequest {
	return &hypervisorv1.GetVmVolumeRequest{Vm: address, VolumeIndex: index, AccessToken: token(), BlockOrder: 9}
}

// userData calls GetVmUserData.
func userData(t *testing.T, c grpc.ClientConnInterface, req *hypervisorv1.GetVmUserDataRequest) (length uint64, data []byte, err error) {
	t.Helper()
	stream, err := hypervisorv1.NewUserDataServiceClient(c).GetVmUserData(t.Context(), req)
	if err != nil {
		return 0, nil, err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return length, data, nil
		}
		if err != nil {
			return length, data, err
		}
		length, data = max(length, m.GetLength()), append(data, m.GetData()...)
	}
}
