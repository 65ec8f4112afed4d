package virtualisation

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

const (
	maxName        = 200
	maxDescription = 4 << 10
)

// checkName refuses names that cannot be part of a file's name: libvirt keeps files of that name for snapshots and pools, and volumes are such.
func checkName(field, name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fault.New(fault.InvalidArgument, "%s: must have 1 to %d bytes, this one has %d", field, maxName, len(name))
	case strings.HasPrefix(name, ".") || strings.Contains(name, "/") || strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
		return fault.New(fault.InvalidArgument, "%s: %q begins with a dot, or has a slash or a control character", field, name)
	}
	return nil
}

// ListDomainSnapshots implements VirtualisationService.
func (s *Service) ListDomainSnapshots(
	ctx context.Context, req *hypervisorv1.ListDomainSnapshotsRequest,
) (*hypervisorv1.ListDomainSnapshotsResponse, error) {
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	var all []*hypervisorv1.DomainSnapshot
	if record != nil {
		all = snapshotsOfVM(record)
	} else {
		found, err := s.Driver.ListSnapshots(ctx, dom.UUID)
		if err != nil {
			return nil, err
		}
		for _, one := range found {
			all = append(all, describeSnapshot(one))
		}
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.DomainSnapshot).GetName)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListDomainSnapshotsResponse{Snapshots: all, NextPageToken: next}, nil
}

func describeSnapshot(s hypervisor.DomainSnapshot) *hypervisorv1.DomainSnapshot {
	m := &hypervisorv1.DomainSnapshot{Name: s.Name, Parent: s.Parent, State: stateOf(s.State), Description: s.Description, Current: s.Current}
	if !s.Created.IsZero() {
		m.CreatedOn = timestamppb.New(s.Created)
	}
	return m
}

// snapshotsOfVM returns the snapshots of a VM's volumes by name.
func snapshotsOfVM(record *hypervisorv1.LocalVmInfo) (all []*hypervisorv1.DomainSnapshot) {
	sizes := make(map[string]uint64)
	for _, v := range record.GetVmInfo().GetVolumes() {
		for name, size := range v.GetSnapshots() {
			sizes[name] += size
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		all = append(all, &hypervisorv1.DomainSnapshot{Name: name, SizeBytes: sizes[name]})
	}
	return all
}

// CreateDomainSnapshot implements VirtualisationService.
func (s *Service) CreateDomainSnapshot(
	ctx context.Context, req *hypervisorv1.CreateDomainSnapshotRequest,
) (*hypervisorv1.CreateDomainSnapshotResponse, error) {
	if err := checkName("name", req.GetName()); err != nil {
		return nil, err
	}
	if d := req.GetDescription(); len(d) > maxDescription || !isText(d) {
		return nil, fault.New(fault.InvalidArgument, "description: has more than %d bytes, or control characters", maxDescription)
	}
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	if record != nil {
		return s.snapshotVM(ctx, record, req)
	}
	if strings.ContainsAny(req.GetName(), `"\`) {
		// Seen with libvirt 9.0 and QEMU 7.2: a running machine keeps one under such a name, but cannot be started from it.
		return nil, fault.New(fault.InvalidArgument, "name: %q has a double quote or a backslash, which the virtualiser cannot find again", req.GetName())
	}
	made, err := s.Driver.CreateSnapshot(ctx, dom.UUID, req.GetName(), req.GetDescription())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.CreateDomainSnapshotResponse{Snapshot: describeSnapshot(made)}, nil
}

// isText says whether XML 1.0 can hold a text.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || r == 0xfffe || r == 0xffff
	})
}

func (s *Service) snapshotVM(
	ctx context.Context, record *hypervisorv1.LocalVmInfo, req *hypervisorv1.CreateDomainSnapshotRequest,
) (*hypervisorv1.CreateDomainSnapshotResponse, error) {
	id, name := record.GetVmInfo().GetUuid(), req.GetName()
	if req.GetDescription() != "" {
		return nil, fault.New(fault.InvalidArgument, "description: is not kept for the snapshots of VM %s; leave it away", id)
	}
	if slices.ContainsFunc(snapshotsOfVM(record), func(one *hypervisorv1.DomainSnapshot) bool { return one.GetName() == name }) {
		return nil, fault.New(fault.AlreadyExists, "vm %s: has a snapshot %q; delete it first, or use SnapshotVm, which replaces it", id, name)
	}
	if _, err := s.Snapshots.SnapshotVm(ctx, &hypervisorv1.SnapshotVmRequest{Vm: id, ForceIfNotStopped: true, Name: name}); err != nil {
		return nil, err
	}
	made := &hypervisorv1.DomainSnapshot{Name: name}
	for _, one := range snapshotsOfVM(s.vm(id)) {
		if one.GetName() == name {
			made = one
		}
	}
	return &hypervisorv1.CreateDomainSnapshotResponse{Snapshot: made}, nil
}

// RevertDomainSnapshot implements VirtualisationService.
func (s *Service) RevertDomainSnapshot(
	ctx context.Context, req *hypervisorv1.RevertDomainSnapshotRequest,
) (*hypervisorv1.RevertDomainSnapshotResponse, error) {
	if err := checkName("name", req.GetName()); err != nil {
		return nil, err
	}
	dom, err := s.act(ctx, req.GetDomain(), func(ctx context.Context, uuid string) error {
		_, err := s.Snapshots.RestoreVmFromSnapshot(ctx, &hypervisorv1.RestoreVmFromSnapshotRequest{
			Vm: uuid, ForceIfNotStopped: true, Name: req.GetName(), Retain: true,
		})
		return err
	}, func(ctx context.Context, uuid string) error { return s.Driver.RevertSnapshot(ctx, uuid, req.GetName()) })
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.RevertDomainSnapshotResponse{Domain: dom}, nil
}

// DeleteDomainSnapshot implements VirtualisationService.
func (s *Service) DeleteDomainSnapshot(
	ctx context.Context, req *hypervisorv1.DeleteDomainSnapshotRequest,
) (*hypervisorv1.DeleteDomainSnapshotResponse, error) {
	if err := checkName("name", req.GetName()); err != nil {
		return nil, err
	}
	_, err := s.act(ctx, req.GetDomain(), func(ctx context.Context, uuid string) error {
		_, err := s.Snapshots.DiscardVmSnapshot(ctx, &hypervisorv1.DiscardVmSnapshotRequest{Vm: uuid, Name: req.GetName()})
		return err
	}, func(ctx context.Context, uuid string) error { return s.Driver.DeleteSnapshot(ctx, uuid, req.GetName()) })
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.DeleteDomainSnapshotResponse{}, nil
}
