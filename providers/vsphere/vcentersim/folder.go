package vcentersim

import (
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// serveFolder answers GET /folder/<path>-flat.vmdk?dcPath=&dsName= with the plain content of a disk, ranges included. Other files of a
// datastore are not served. The flat file of a VM that is on is locked unless a snapshot has frozen it.
func (s *Simulator) serveFolder(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	defer func() { s.recordRequest(r, rec) }()
	if !s.loggedIn(r) {
		http.Error(rec, "not logged in", http.StatusUnauthorized)
		return
	}
	d := s.diskAt(r.URL.Query().Get("dsName"), strings.TrimPrefix(r.URL.Path, "/folder/"))
	if d == nil {
		http.NotFound(rec, r)
		return
	}
	generation, readable := s.flatGeneration(d)
	if !readable {
		http.Error(rec, "the file is locked", http.StatusInternalServerError)
		return
	}
	frozen := d.content.at(generation)
	http.ServeContent(rec, r, path.Base(r.URL.Path), time.Time{}, io.NewSectionReader(frozen, 0, frozen.Info().VirtualSize))
}

func (s *Simulator) diskAt(store, file string) *disk {
	name, flat := strings.CutSuffix(file, "-flat.vmdk")
	if !flat {
		return nil
	}
	want := "[" + store + "] " + name + ".vmdk"
	for _, m := range s.allMachines() {
		for _, d := range m.disks {
			if d.file == want {
				return d
			}
		}
	}
	return nil
}

// flatGeneration returns the generation that the base file of a disk holds: that of the oldest snapshot if there is one, otherwise the
// present one, which nobody may read while the VM is on.
func (s *Simulator) flatGeneration(d *disk) (int, bool) {
	s.mu.Lock()
	oldest := -1
	for _, snap := range s.snapshots {
		if g, ok := snap.generations[d]; ok && (oldest < 0 || g < oldest) {
			oldest = g
		}
	}
	s.mu.Unlock()
	if oldest >= 0 {
		return oldest, true
	}
	off := false
	reg := s.model.Map()
	if vm, ok := reg.Get(d.machine.ref).(*simulator.VirtualMachine); ok {
		reg.WithLock(&simulator.Context{Context: s.ctx, Map: reg}, vm, func() {
			off = vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
		})
	}
	return d.content.freeze(), off
}
