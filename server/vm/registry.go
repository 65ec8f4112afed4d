// Package vm runs the VMs of a host: what they are, who owns them, and their life from creation to destruction. It knows the virtualiser
// only as hypervisor.Driver, and images, addresses and files only through the interfaces it declares.
package vm

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// prefix is where the store keeps VMs, as LocalVmInfo messages by UUID.
const prefix = "vms/"

// Registry is the set of VMs: in memory for reading, in the store for keeps. A message that it handed out is never changed: Change replaces it.
type Registry struct {
	store store.Store
	feed  *feed.Feed

	mu     sync.RWMutex
	byUUID map[string]*hypervisorv1.LocalVmInfo
	byIP   map[netip.Addr]string
	byName map[string][]string // several VMs may have one name; then only IP address and UUID name them
	// ordered are all VMs in the order of their creation; listed is a copy for readers, nil when it is out of date.
	ordered []*hypervisorv1.VmInfo
	listed  *listing
}

// NewRegistry reads the VMs from the store.
func NewRegistry(ctx context.Context, s store.Store, f *feed.Feed) (*Registry, error) {
	r := &Registry{
		store: s, feed: f,
		byUUID: make(map[string]*hypervisorv1.LocalVmInfo), byIP: make(map[netip.Addr]string), byName: make(map[string][]string),
	}
	err := s.View(ctx, func(tx store.Reader) error {
		for e := range tx.Scan(prefix, "") {
			record := new(hypervisorv1.LocalVmInfo)
			if err := proto.Unmarshal(e.Value, record); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			r.index(record)
			f.PutVM(record.GetVmInfo())
		}
		return nil
	})
	return r, err
}

// Get returns the VM that ref names: its UUID, an IP address of it, or its name if no other VM has it.
func (r *Registry) Get(ref string) (*hypervisorv1.LocalVmInfo, error) {
	if ref == "" {
		return nil, fault.New(fault.InvalidArgument, "vm: is empty; give the VM's IP address, UUID or name")
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if record, ok := r.byUUID[ref]; ok {
		return record, nil
	}
	if ip, err := netip.ParseAddr(ref); err == nil {
		if uuid, ok := r.byIP[ip.Unmap()]; ok {
			return r.byUUID[uuid], nil
		}
		return nil, fault.New(fault.NotFound, "no VM with IP address: %s found", ref)
	}
	switch uuids := r.byName[ref]; len(uuids) {
	case 0:
		return nil, fault.New(fault.NotFound, "vm %q: no such VM; list them with ListVMs", ref)
	case 1:
		return r.byUUID[uuids[0]], nil
	default:
		return nil, fault.New(fault.InvalidArgument, "vm %q: %d VMs have this name; use an IP address or UUID: %s",
			ref, len(uuids), strings.Join(uuids, ", "))
	}
}

// Info returns what is known of the VM that ref names.
func (r *Registry) Info(ref string) (*hypervisorv1.VmInfo, error) {
	record, err := r.Get(ref)
	return record.GetVmInfo(), err
}

// List returns all VMs in the order of their creation. The slice is the caller's.
func (r *Registry) List() []*hypervisorv1.VmInfo { return slices.Clone(r.listing().infos) }

// byCreation orders VMs.
func byCreation(a, b *hypervisorv1.VmInfo) int {
	return cmp.Or(
		cmp.Compare(a.GetCreatedOn().GetSeconds(), b.GetCreatedOn().GetSeconds()), cmp.Compare(a.GetCreatedOn().GetNanos(), b.GetCreatedOn().GetNanos()),
		strings.Compare(a.GetUuid(), b.GetUuid()),
	)
}

// AuthorizeVM implements intercept.VMAuthorizer.
func (r *Registry) AuthorizeVM(_ context.Context, ref string, p principal.Principal, token []byte) error {
	info, err := r.Info(ref)
	if err != nil {
		return err
	}
	if p.OwnsAny(info.GetOwnerUsers(), info.GetOwnerGroups()) {
		return nil
	}
	if token != nil {
		return fault.New(fault.PermissionDenied, "vm %q: no access to resource: the access token is not valid", ref)
	}
	return fault.New(fault.PermissionDenied, "vm %q: no access to resource: %s is not among its owners", ref, p.Name)
}

// Add makes a VM known. What the others write is kept with it, or nothing is.
func (r *Registry) Add(ctx context.Context, record *hypervisorv1.LocalVmInfo, others ...func(store.Writer) error) error {
	if err := r.save(ctx, record, others...); err != nil {
		return err
	}
	r.mu.Lock()
	r.index(record)
	r.mu.Unlock()
	r.feed.PutVM(record.GetVmInfo())
	return nil
}

// Change replaces a VM's record with a changed copy and returns it. If change fails, nothing changes. What the others write is kept with it. Changes of one
// VM come from one goroutine at a time: its holder of the VM's lock.
func (r *Registry) Change(
	ctx context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error, others ...func(store.Writer) error,
) (*hypervisorv1.LocalVmInfo, error) {
	old, err := r.Get(uuid)
	if err != nil {
		return nil, err
	}
	record := proto.CloneOf(old)
	if err := change(record); err != nil {
		return nil, err
	}
	if len(others) == 0 && proto.Equal(old, record) {
		return old, nil
	}
	if err := r.save(ctx, record, others...); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.unindex(old)
	r.index(record)
	r.mu.Unlock()
	if before, now := old.GetVmInfo(), record.GetVmInfo(); before.GetAddress().GetIpAddress() != now.GetAddress().GetIpAddress() {
		r.feed.MoveVM(before, now)
	} else {
		r.feed.PutVM(now)
	}
	return record, nil
}

// Remove forgets a VM. An unknown one is no error.
func (r *Registry) Remove(ctx context.Context, uuid string) error {
	record, err := r.Get(uuid)
	if err != nil {
		return nil //nolint:nilerr // it has gone, which is what was asked for
	}
	if _, err := r.store.Update(ctx, func(w store.Writer) error {
		return errors.Join(w.Delete(prefix+uuid), w.Delete(requestPrefix+uuid))
	}); err != nil {
		return fault.Wrap(err, "vm %s", uuid)
	}
	r.mu.Lock()
	r.unindex(record)
	r.mu.Unlock()
	r.feed.DeleteVM(record.GetVmInfo())
	return nil
}

func (r *Registry) save(ctx context.Context, record *hypervisorv1.LocalVmInfo, others ...func(store.Writer) error) error {
	raw, err := proto.Marshal(record)
	if err != nil {
		return fault.As(fault.Internal, err, "vm %s", record.GetVmInfo().GetUuid())
	}
	_, err = r.store.Update(ctx, func(w store.Writer) error {
		errs := []error{w.Put(prefix+record.GetVmInfo().GetUuid(), raw)}
		for _, write := range others {
			errs = append(errs, write(w))
		}
		return errors.Join(errs...)
	})
	return fault.Wrap(err, "vm %s", record.GetVmInfo().GetUuid())
}

func (r *Registry) index(record *hypervisorv1.LocalVmInfo) {
	info := record.GetVmInfo()
	r.byUUID[info.GetUuid()] = record
	r.listed = nil
	i, _ := slices.BinarySearchFunc(r.ordered, info, byCreation)
	r.ordered = slices.Insert(r.ordered, i, info)
	for ip := range addresses(info) {
		r.byIP[ip] = info.GetUuid()
	}
	if name := info.GetHostname(); name != "" {
		r.byName[name] = append(r.byName[name], info.GetUuid())
	}
}

func (r *Registry) unindex(record *hypervisorv1.LocalVmInfo) {
	info := record.GetVmInfo()
	delete(r.byUUID, info.GetUuid())
	r.listed = nil
	if i, found := slices.BinarySearchFunc(r.ordered, info, byCreation); found {
		r.ordered = slices.Delete(r.ordered, i, i+1)
	}
	for ip := range addresses(info) {
		// Another VM may have got the address of one that is prepared for migration.
		if r.byIP[ip] == info.GetUuid() {
			delete(r.byIP, ip)
		}
	}
	left := slices.DeleteFunc(r.byName[info.GetHostname()], func(u string) bool { return u == info.GetUuid() })
	if len(left) == 0 {
		delete(r.byName, info.GetHostname())
	} else {
		r.byName[info.GetHostname()] = left
	}
}
