package transfer

import (
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

const (
	// tellEvery is how often progress is told at most.
	tellEvery = 100 * time.Millisecond
	// rateWindow is how far back the rate looks.
	rateWindow = 5 * time.Second
)

// Progress is how far the work is. Sizes are in bytes.
type Progress struct {
	Phase string
	// Total and Done count bytes of disk, holes included; Read and Written what was moved.
	Total, Done, Read, Written int64
	// Rate is in bytes of disk per second over the last seconds; Remaining is negative while it is not known.
	Rate      int64
	Remaining time.Duration
	Disks     []DiskProgress
	// Current is the file that was last worked on.
	Current string
}

// DiskProgress is how far a disk is.
type DiskProgress struct {
	ID, File    string
	Total, Done int64
	Complete    bool
}

// meter adds up the progress of all disks.
type meter struct {
	hooks Hooks

	mu      sync.Mutex
	disks   []*diskMeter
	current string
	told    time.Time
	samples []sample // the last ones, oldest first, over rateWindow
}

type sample struct {
	at   time.Time
	done int64
}

// diskMeter is the meter of one disk.
type diskMeter struct {
	meter         *meter
	DiskProgress  // guarded by meter.mu
	read, written int64
}

func newMeter(h Hooks, disks []driver.DiskInfo) *meter {
	m := &meter{hooks: h}
	for _, d := range disks {
		m.disks = append(m.disks, &diskMeter{meter: m, DiskProgress: DiskProgress{ID: d.ID, Total: d.Capacity}})
	}
	return m
}

func (m *meter) disk(i int) *diskMeter { return m.disks[i] }

// begin says that an attempt begins.
func (d *diskMeter) begin(file string) {
	d.change(true, func() { d.File, d.Done, d.read, d.written = file, 0, 0, 0 })
}

// progress takes over what the converter tells.
func (d *diskMeter) progress(p converters.Progress) {
	d.change(false, func() { d.Done, d.read, d.written = min(p.Virtual, d.Total), p.Read, p.Written })
}

// finish says that the disk is complete.
func (d *diskMeter) finish() {
	d.change(true, func() { d.Done, d.Complete = d.Total, true })
}

// change changes the figures and tells the sum, if it is time or always.
func (d *diskMeter) change(always bool, change func()) {
	m := d.meter
	m.mu.Lock()
	change()
	m.current = d.File
	now := m.hooks.Now()
	if !always && now.Sub(m.told) < tellEvery {
		m.mu.Unlock()
		return
	}
	m.told = now
	p := m.sum(now)
	m.mu.Unlock()
	m.hooks.Progress(p)
}

// sum adds up. The caller holds mu.
func (m *meter) sum(now time.Time) Progress {
	p := Progress{Phase: "copying disks", Current: m.current, Remaining: -1}
	for _, d := range m.disks {
		p.Total += d.Total
		p.Done += d.Done
		p.Read += d.read
		p.Written += d.written
		p.Disks = append(p.Disks, d.DiskProgress)
	}
	m.samples = append(m.samples, sample{now, p.Done})
	for len(m.samples) > 2 && now.Sub(m.samples[0].at) > rateWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	if took := now.Sub(first.at); took > 0 && p.Done > first.done {
		p.Rate = int64(float64(p.Done-first.done) / took.Seconds())
		if p.Rate > 0 {
			p.Remaining = time.Duration(float64(p.Total-p.Done) / float64(p.Rate) * float64(time.Second))
		}
	}
	return p
}
