package dialogue

import (
	"errors"
	"io"
	"net"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// CopyVmRequest is the request of CopyVm.
type CopyVmRequest struct {
	AccessToken      []byte
	IpAddress        net.IP
	SkipMemoryCheck  bool
	SourceHypervisor string
	srpc.VmInfo
}

// CopyVmResponse is an answer of CopyVm.
type CopyVmResponse struct {
	Error           string
	Final           bool
	IpAddress       net.IP
	ProgressMessage string
}

func openCopy(h Hooks) func(wire.Talk) wire.Dialogue {
	return func(t wire.Talk) wire.Dialogue {
		p := new(progress)
		return dialogue[*hypervisorv1.CopyVmRequest, *hypervisorv1.CopyVmResponse]{
			asked(t, copyToProto),
			func(m *hypervisorv1.CopyVmResponse) error {
				if !m.GetFinal() && !p.news(m.GetProgressMessage()) {
					return nil
				}
				ip, err := wire.IPToWire(m.GetIpAddress())
				if err != nil {
					return fault.As(fault.Internal, err, "ip_address")
				}
				if m.GetFinal() {
					h.Created(t.Context(), m.GetIpAddress())
				}
				return t.Write(&CopyVmResponse{Final: m.GetFinal(), IpAddress: ip, ProgressMessage: m.GetProgressMessage()})
			},
			saidAll(t, func(text string) any { return &CopyVmResponse{Error: text} }),
		}
	}
}

func copyToProto(w CopyVmRequest) (*hypervisorv1.CopyVmRequest, error) {
	var e wire.Errors
	m := &hypervisorv1.CopyVmRequest{
		AccessToken: w.AccessToken, SkipMemoryCheck: w.SkipMemoryCheck, SourceHypervisor: w.SourceHypervisor,
		Vm:     wire.One(&e, "IpAddress", w.IpAddress, wire.IPToProto),
		VmInfo: wire.Message(&e, "VmInfo", w.VmInfo, srpc.VmInfoToProto),
	}
	return m, e.Err()
}

// MigrateVmRequest is the request of MigrateVm.
type MigrateVmRequest struct {
	AccessToken      []byte
	DhcpTimeout      time.Duration
	IpAddress        net.IP
	SkipMemoryCheck  bool
	SourceHypervisor string
}

// MigrateVmResponse is an answer of MigrateVm.
type MigrateVmResponse struct {
	Error           string
	Final           bool
	ProgressMessage string
	RequestCommit   bool
}

// MigrateVmResponseResponse is the client's answer to RequestCommit.
type MigrateVmResponseResponse struct{ Commit bool }

func openMigrate(t wire.Talk) wire.Dialogue {
	first, p := asked(t, migrateToProto), new(progress)
	begun := false
	return dialogue[*hypervisorv1.MigrateVmRequest, *hypervisorv1.MigrateVmResponse]{
		func(m *hypervisorv1.MigrateVmRequest) error {
			if !begun {
				begun = true
				return first(m)
			}
			var w MigrateVmResponseResponse
			if err := t.Read(&w, true); err != nil { // somebody may be asked
				return undecided(err)
			}
			m.Part = &hypervisorv1.MigrateVmRequest_Commit{Commit: w.Commit}
			t.Attend()
			return nil
		},
		func(m *hypervisorv1.MigrateVmResponse) error {
			if !m.GetFinal() && !m.GetRequestCommit() && !p.news(m.GetProgressMessage()) {
				return nil
			}
			return t.Write(&MigrateVmResponse{Final: m.GetFinal(), ProgressMessage: m.GetProgressMessage(), RequestCommit: m.GetRequestCommit()})
		},
		saidAll(t, func(text string) any { return &MigrateVmResponse{Error: text} }),
	}
}

// undecided is the error of a client that has not said whether the VM is to stay. One that has gone is no fault of ours.
func undecided(err error) error {
	if err = cut(err); errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.As(fault.Canceled, err, "the client did not say whether the VM is to stay")
	}
	return err
}

func migrateToProto(w MigrateVmRequest) (*hypervisorv1.MigrateVmRequest, error) {
	vm, err := wire.IPToProto(w.IpAddress)
	return &hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: &hypervisorv1.MigrateVmStart{
		AccessToken: w.AccessToken, DhcpTimeout: wire.DurationToProto(w.DhcpTimeout), Vm: vm, SkipMemoryCheck: w.SkipMemoryCheck,
		SourceHypervisor: w.SourceHypervisor,
	}}}, err
}
