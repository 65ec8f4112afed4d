package vsphere

import (
	"context"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Verify implements driver.View with the manifest of the lease that gave the disk. That lease must still be open: once it is completed, aborted
// or lost its manifest is gone and nothing can be compared.
func (v *view) Verify(ctx context.Context, id string, digests map[string]string) ([]string, error) {
	name, ok := v.diskName(id)
	if !ok {
		return nil, fault.New(fault.NotFound, "vm %q has no disk with the id %q", v.m.vm.Path, id)
	}
	v.mu.Lock()
	t := *v.track(id)
	v.mu.Unlock()
	if t.from == nil {
		return nil, fault.New(fault.FailedPrecondition, "vm %q: %s was not read to its end", v.m.vm.Path, name)
	}
	entry, err := manifestEntry(ctx, t.from, id)
	if err != nil {
		return nil, classify(err, "vm %q: %s: get the manifest", v.m.vm.Path, name)
	}
	if entry == nil {
		v.note("vm %s: %s cannot be compared with the source, which gives no digest of it", v.m.vm.Path, name)
		return nil, nil
	}
	if entry.Size > 0 && entry.Size != t.size {
		return nil, fault.New(fault.DataLoss, "vm %q: %s: %d bytes were received where the source says it sent %d", v.m.vm.Path, name, t.size, entry.Size)
	}
	var compared []string
	for hash, theirs := range manifestDigests(entry) {
		ours, ok := digests[hash]
		if !ok {
			continue
		}
		if !strings.EqualFold(ours, theirs) {
			return nil, fault.New(fault.DataLoss, "vm %q: %s: the %s of the bytes received is %s, of those sent %s", v.m.vm.Path, name, hash, ours, theirs)
		}
		compared = append(compared, hash)
	}
	slices.Sort(compared)
	return compared, nil
}

// manifestEntry returns what the source says it sent for a disk, or nil if it says nothing: the lease is over, or it makes no manifests.
func manifestEntry(ctx context.Context, l *lease, id string) (*types.HttpNfcLeaseManifestEntry, error) {
	res, err := methods.HttpNfcLeaseGetManifest(ctx, l.c, &types.HttpNfcLeaseGetManifest{This: l.ref})
	if err != nil {
		if code, _ := diagnose(err); leaseGone(err) || code == fault.Unimplemented {
			return nil, nil
		}
		return nil, err
	}
	for i := range res.Returnval {
		if res.Returnval[i].Key == l.sources[id].key {
			return &res.Returnval[i], nil
		}
	}
	return nil, nil
}

// manifestDigests returns an entry's digests by the names that driver.View uses.
func manifestDigests(e *types.HttpNfcLeaseManifestEntry) map[string]string {
	out := make(map[string]string)
	if e.Sha1 != "" {
		out["sha1"] = e.Sha1
	}
	if e.Checksum != "" {
		out[strings.ToLower(e.ChecksumType)] = e.Checksum
	}
	return out
}
