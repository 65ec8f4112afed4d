package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
)

// What the peer's VM is.
const (
	strangerIP       = "10.88.0.77"
	strangerUserData = "#cloud-config\nhostname: stranger\n"
)

func strangerToken() []byte { return bytes.Repeat([]byte{9}, 32) }

// stranger is a host that brings VMs from a peer that speaks only SRPC.
type stranger struct {
	t    *testing.T
	peer *fakepeer.Peer
	here *servertest.Server
}

// newStranger starts a peer with a VM of two volumes, and a host whose certificate lists the methods there.
func newStranger(t *testing.T, running bool, change func(*fakepeer.Options, *config.Config), methods ...string) *stranger {
	t.Helper()
	a := fakepeer.NewAuthority(t)
	o := fakepeer.Options{
		Certificate: a.Peer(), Trust: a.Pool, Token: strangerToken(), UserData: []byte(strangerUserData),
		Volumes: [][]byte{content(3<<20+512, 7), content(1<<20, 8)},
		VM: srpctest.VmInfo{
			Address:          srpctest.Address{IpAddress: net.ParseIP(strangerIP), MacAddress: "52:54:0a:58:00:4d"},
			ArchitectureType: 1, Hostname: "stranger", MemoryInMiB: 64, MilliCPUs: 250, OwnerUsers: []string{"alice"}, State: fakepeer.Stopped, SubnetId: "default",
			Tags: map[string]string{"env": "test"},
		},
		Stopping: func(volumes [][]byte) { copy(volumes[0][1<<20:], "written at the end") },
	}
	if running {
		o.VM.State = fakepeer.Running
	}
	s := &stranger{t: t}
	s.here = servertest.Start(t, func(c *config.Config) {
		c.Peers.CertFile, c.Peers.KeyFile, c.Peers.CAFile = a.Files(a.Client("host-here", methods...))
		if change != nil {
			change(&o, c)
		}
	})
	s.peer = fakepeer.Start(t, o)
	return s
}

// migrate brings the VM here, and returns the progress texts.
func (s *stranger) migrate(ctx context.Context, token []byte, mode hypervisorv1.MigrationMode, commit bool, at func(string)) ([]string, error) {
	s.t.Helper()
	stream, err := hypervisorv1.NewVmTransferServiceClient(s.here.DialSocket()).MigrateVm(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	start := &hypervisorv1.MigrateVmStart{Vm: strangerIP, AccessToken: token, SourceHypervisor: s.peer.Addr, Mode: mode}
	if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}}); err != nil {
		s.t.Fatal(err)
	}
	for texts := []string(nil); ; {
		m, err := stream.Recv()
		if err != nil || m.GetFinal() {
			return texts, err
		}
		if m.GetRequestCommit() {
			if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Commit{Commit: commit}}); err != nil {
				s.t.Fatal(err)
			}
			continue
		}
		texts = append(texts, m.GetProgressMessage())
		if at != nil {
			at(m.GetProgressMessage())
		}
	}
}

func (s *stranger) move() ([]string, error) {
	s.t.Helper()
	return s.migrate(s.t.Context(), strangerToken(), hypervisorv1.MigrationMode_MIGRATION_MODE_UNSPECIFIED, true, nil)
}

// untouched checks that the VM at the peer is as it was, and that nothing is here.
func (s *stranger) untouched(state uint) {
	s.t.Helper()
	if got, uncommitted, gone := s.peer.State(); got != state || uncommitted || gone {
		s.t.Errorf("the peer's VM has state %d, want %d; uncommitted %v, gone %v; %q", got, state, uncommitted, gone, s.peer.Methods())
	}
	if p := s.peer.Problems(); len(p) > 0 {
		s.t.Error(p)
	}
	res, err := vmsOf(s.here).ListVMs(s.t.Context(), &hypervisorv1.ListVMsRequest{})
	if err != nil || len(res.GetIpAddresses()) > 0 {
		s.t.Errorf("VMs here: %v %v", res, err)
	}
	entries, err := os.ReadDir(filepath.Join(s.here.Config.StateDir, "volumes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Error(err)
	}
	for _, e := range entries {
		if e.Name()[0] != '.' {
			s.t.Errorf("files are left: %s", e.Name())
		}
	}
}

// arrived checks that the VM is here as it was there.
func (s *stranger) arrived(running bool) *hypervisorv1.VmInfo {
	s.t.Helper()
	st, info, err := state(s.t.Context(), s.here, strangerIP)
	if err != nil || st != hypervisorv1.State_STATE_RUNNING || info.GetUncommitted() || info.GetUuid() == "" || info.GetAddress().GetMacAddress() != "52:54:0a:58:00:4d" ||
		info.GetHostname() != "stranger" || info.GetMemoryInMib() != 64 || info.GetMilliCpus() != 250 || info.GetTags()["env"] != "test" ||
		!slices.Equal(info.GetOwnerUsers(), []string{"alice"}) || len(info.GetVolumes()) != 2 || info.GetVolumes()[0].GetVirtualSize() != 3<<20+512 {
		s.t.Errorf("here: %v %v", info, err)
		return info
	}
	s.contents(info, running)
	return info
}

func (s *stranger) contents(info *hypervisorv1.VmInfo, running bool) {
	s.t.Helper()
	root := content(3<<20+512, 7)
	if running {
		copy(root[1<<20:], "written at the end")
	}
	for name, want := range map[string][]byte{"root": root, "secondary-volume.0": content(1<<20, 8), "user-data.raw": []byte(strangerUserData)} {
		if got, err := os.ReadFile(file(s.here, info, name)); err != nil || !bytes.Equal(got, want) {
			s.t.Errorf("%s: %d bytes, want %d, or other ones: %v", name, len(got), len(want), err)
		}
	}
}

func (s *stranger) copy(token []byte) (ip string, err error) {
	s.t.Helper()
	stream, err := hypervisorv1.NewVmTransferServiceClient(s.here.DialSocket()).CopyVm(s.t.Context(), &hypervisorv1.CopyVmRequest{
		Vm: strangerIP, AccessToken: token, SourceHypervisor: s.peer.Addr, VmInfo: &hypervisorv1.VmInfo{Hostname: "twin"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return ip, nil
		}
		if err != nil {
			return "", err
		}
		ip = m.GetIpAddress()
	}
}
