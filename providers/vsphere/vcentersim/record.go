package vcentersim

import (
	"cmp"
	"maps"
	"net/http"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// The states of a lease in a Record.
const (
	LeaseOpen     = "open"
	LeaseComplete = "complete"
	LeaseAborted  = "aborted"
	LeaseExpired  = "expired"
)

// Record is what happened so far and what there is.
type Record struct {
	// Leases are all that were ever opened, Snapshots those that exist.
	Leases    []LeaseRecord    `json:"leases"`
	Snapshots []SnapshotRecord `json:"snapshots"`
	// Requests are the reads of disks, in the order in which they ended.
	Requests []RequestRecord `json:"requests"`
	// Calls counts the calls of the API by method.
	Calls map[string]int `json:"calls"`
}

// LeaseRecord is a lease.
type LeaseRecord struct {
	VM string `json:"vm"`
	// Of is the id of what it reads: the VM or a snapshot.
	Of    string `json:"of"`
	State string `json:"state"`
	// Progress are the percentages reported.
	Progress []int32 `json:"progress"`
}

// SnapshotRecord is a snapshot.
type SnapshotRecord struct {
	VM          string `json:"vm"`
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// RequestRecord is a read of a disk.
type RequestRecord struct {
	Path   string `json:"path"`
	Range  string `json:"range,omitempty"`
	Status int    `json:"status"`
	Bytes  int64  `json:"bytes"`
}

// history is the part of a Record that is not to be found elsewhere. It is guarded by Simulator.mu.
type history struct {
	requests []RequestRecord
	calls    map[string]int
}

// Record returns what happened so far.
func (s *Simulator) Record() Record {
	r := Record{Snapshots: s.listSnapshots()}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Requests = slices.Clone(s.history.requests)
	r.Calls = maps.Clone(s.history.calls)
	for _, l := range s.leases {
		r.Leases = append(r.Leases, LeaseRecord{VM: l.machine.name, Of: l.of.Value, State: l.state, Progress: slices.Clone(l.progress)})
	}
	slices.SortFunc(r.Leases, func(a, b LeaseRecord) int {
		return cmp.Or(cmp.Compare(a.VM, b.VM), cmp.Compare(a.Of, b.Of), cmp.Compare(a.State, b.State))
	})
	return r
}

func (s *Simulator) listSnapshots() []SnapshotRecord {
	var out []SnapshotRecord
	reg := s.model.Map()
	ctx := &simulator.Context{Context: s.ctx, Map: reg}
	for _, m := range s.allMachines() {
		vm, ok := reg.Get(m.ref).(*simulator.VirtualMachine)
		if !ok {
			continue
		}
		reg.WithLock(ctx, vm, func() {
			if vm.Snapshot != nil {
				out = appendSnapshots(out, m.name, vm.Snapshot.RootSnapshotList)
			}
		})
	}
	slices.SortFunc(out, func(a, b SnapshotRecord) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func appendSnapshots(out []SnapshotRecord, vm string, list []types.VirtualMachineSnapshotTree) []SnapshotRecord {
	for _, t := range list {
		out = append(out, SnapshotRecord{VM: vm, ID: t.Snapshot.Value, Name: t.Name, Description: t.Description})
		out = appendSnapshots(out, vm, t.ChildSnapshotList)
	}
	return out
}

func (s *Simulator) countCall(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history.calls == nil {
		s.history.calls = make(map[string]int)
	}
	s.history.calls[name]++
}

func (s *Simulator) recordRequest(r *http.Request, rec *recorder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history.requests = append(s.history.requests, RequestRecord{
		Path: r.URL.Path, Range: r.Header.Get("Range"), Status: rec.status, Bytes: rec.bytes,
	})
}

func (s *Simulator) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = history{}
}

// recorder notes what is answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
