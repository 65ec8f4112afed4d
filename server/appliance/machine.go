package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/userdata"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// machine is one that is there.
type machine struct {
	dom hypervisor.Domain
	// record is that of a VM; nil = it is none.
	record     *hypervisorv1.LocalVmInfo
	definition []byte
	layout     hypervisor.Appliance
	// disks are all disks, those of a VM in the order of its volumes.
	disks []hypervisor.ApplianceDisk
}

func (m *machine) managed() bool { return m.record != nil }

func (m *machine) uuid() string { return m.dom.UUID }

// take finds a machine and keeps others from changing it until release is called. A VM is locked as the VM services do.
func (s *Service) take(ctx context.Context, ref string) (m *machine, release func(), err error) {
	uuid, managed, err := s.identify(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	m = new(machine)
	if managed {
		m.record, release, err = s.Operations.Acquire(vm.During(ctx, "copying"), uuid)
	} else {
		release, err = s.domains.Lock(ctx, uuid)
		err = fault.Wrap(err, "domain %q: something else is done with it", ref)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := s.look(ctx, m, uuid); err != nil {
		release()
		return nil, nil, fault.Wrap(err, "domain %q", ref)
	}
	return m, release, nil
}

// identify returns the UUID of the machine that ref names.
func (s *Service) identify(ctx context.Context, ref string) (uuid string, managed bool, err error) {
	if ref == "" {
		return "", false, fault.New(fault.InvalidArgument, "domain: is empty; give the domain's UUID or name")
	}
	dom, err := s.Driver.FindDomain(ctx, ref)
	if err == nil {
		_, managed := s.vm(dom.UUID)
		return dom.UUID, managed, nil
	}
	if fault.Is(err, fault.NotFound) {
		if record, vmErr := s.VMs.Get(ref); vmErr == nil { // by its host name or address, or not known to the virtualiser
			return record.GetVmInfo().GetUuid(), true, nil
		}
	}
	return "", false, err
}

func (s *Service) vm(uuid string) (*hypervisorv1.LocalVmInfo, bool) {
	record, err := s.VMs.Get(uuid)
	if err != nil || record.GetVmInfo().GetUuid() != uuid {
		return nil, false
	}
	return record, true
}

func (s *Service) look(ctx context.Context, m *machine, uuid string) (err error) {
	m.dom, err = s.Driver.FindDomain(ctx, uuid)
	switch {
	case fault.Is(err, fault.NotFound) && m.managed(): // it was never started
		m.dom = hypervisor.Domain{UUID: uuid, Name: m.record.GetVmInfo().GetHostname()}
	case err != nil:
		return err
	default:
		if m.definition, err = s.Driver.Definition(ctx, uuid); err != nil {
			return err
		}
		if m.layout, err = s.Driver.DescribeDefinition(m.definition); err != nil {
			return err
		}
	}
	m.disks = m.layout.Disks
	if m.managed() {
		m.disks = volumes(m.record)
	}
	for _, d := range m.disks {
		if d.File == "" {
			return fault.New(fault.Unimplemented, "disk %s: lies in a %s; only disks in files are copied", d.Target, d.Source)
		}
	}
	if m.dom.State == hypervisor.Stopping {
		return fault.New(fault.FailedPrecondition, "is being stopped; try again when it is off")
	}
	return nil
}

// volumes describes the disks of a VM.
func volumes(record *hypervisorv1.LocalVmInfo) (disks []hypervisor.ApplianceDisk) {
	for i, place := range record.GetVolumeLocations() {
		format := hypervisor.DiskRaw
		if i < len(record.GetVmInfo().GetVolumes()) && record.GetVmInfo().GetVolumes()[i].GetFormat() == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
			format = hypervisor.DiskQCOW2
		}
		disks = append(disks, hypervisor.ApplianceDisk{Target: fmt.Sprintf("volume%d", i), File: place.GetFilename(), Source: "file", Format: format})
	}
	return disks
}

// userData returns the user data of a VM, or nil.
func (s *Service) userData(m *machine) ([]byte, error) {
	if !m.managed() {
		return nil, nil
	}
	dir, err := s.Operations.Directory(m.uuid())
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(filepath.Join(dir, userdata.File))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return content, fault.Wrap(err, "user data")
}

// users returns the domains that use a file: as a disk or in a drive.
func (s *Service) users(ctx context.Context) (map[string][]hypervisor.Domain, error) {
	all, err := s.Driver.ListDomains(ctx)
	if err != nil {
		return nil, err
	}
	users := make(map[string][]hypervisor.Domain)
	for _, dom := range all {
		definition, err := s.Driver.Definition(ctx, dom.UUID)
		if fault.Is(err, fault.NotFound) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		layout, err := s.Driver.DescribeDefinition(definition)
		if err != nil {
			return nil, fault.Wrap(err, "domain %q", dom.Name)
		}
		for _, d := range layout.Disks {
			users[d.File] = append(users[d.File], dom)
		}
		for _, d := range layout.Drives {
			users[d.File] = append(users[d.File], dom)
		}
	}
	return users, nil
}

// nameFree refuses the name of a machine that is there.
func (s *Service) nameFree(ctx context.Context, name string) error {
	if dom, err := s.Driver.FindDomain(ctx, name); err == nil {
		return fault.New(fault.AlreadyExists, "the name %q is that of domain %s; choose another", name, dom.UUID)
	} else if !fault.Is(err, fault.NotFound) {
		return err
	}
	if record, err := s.VMs.Get(name); err == nil {
		return fault.New(fault.AlreadyExists, "the name %q is that of VM %s; choose another", name, record.GetVmInfo().GetUuid())
	}
	return nil
}
