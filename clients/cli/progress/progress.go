// Package progress shows how far long work is: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

// Mode says how progress is shown.
type Mode string

// The modes. Auto is Bar on a terminal and Plain elsewhere.
const (
	Auto  Mode = "auto"
	Bar   Mode = "bar"
	Plain Mode = "plain"
	None  Mode = "none"
)

// ParseMode reads a mode.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Auto, Bar, Plain, None:
		return m, nil
	default:
		return "", fault.New(fault.InvalidArgument, "progress: %q is not auto, bar, plain or none", s)
	}
}

const (
	barEvery   = 100 * time.Millisecond
	plainEvery = 2 * time.Second
	barWidth   = 28
	// rateWindow is how far back the rate looks.
	rateWindow = 5 * time.Second
)

// State is how far the work is, in bytes.
type State struct {
	Phase       string
	Done, Total uint64
	// Rate is in bytes per second; 0 = found out here.
	Rate uint64
	// Remaining is negative while it is not known; 0 with a Rate of 0 = found out here.
	Remaining time.Duration
}

// Display shows progress. Make one with New; Close it before other output. It may be used from several goroutines.
type Display struct {
	w    io.Writer
	mode Mode
	now  func() time.Time

	mu      sync.Mutex
	last    time.Time
	drawn   bool
	phase   string
	samples []sample
}

type sample struct {
	at   time.Time
	done uint64
}

// New makes a display on w.
func New(w io.Writer, mode Mode, now func() time.Time) *Display {
	if mode == Auto {
		mode = Plain
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			mode = Bar
		}
	}
	return &Display{w: w, mode: mode, now: now}
}

// Update shows a state, if it is time to. A new phase is always shown.
func (d *Display) Update(s State) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	d.measure(now, &s)
	every := plainEvery
	if d.mode == Bar {
		every = barEvery
	}
	if d.mode == None || (s.Phase == d.phase && now.Sub(d.last) < every) {
		return
	}
	d.last, d.phase = now, s.Phase
	if d.mode == Bar {
		fmt.Fprintf(d.w, "\r\x1b[K%s", line(s, true))
		d.drawn = true
		return
	}
	fmt.Fprintln(d.w, line(s, false))
}

// Close ends the bar's line.
func (d *Display) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawn {
		fmt.Fprintln(d.w)
		d.drawn = false
	}
}

// measure fills in rate and remaining time from what was seen here, if the state has none.
func (d *Display) measure(now time.Time, s *State) {
	if n := len(d.samples); n > 0 && d.samples[n-1].done > s.Done {
		d.samples = nil // the work began again
	}
	d.samples = append(d.samples, sample{now, s.Done})
	for len(d.samples) > 2 && now.Sub(d.samples[0].at) > rateWindow {
		d.samples = d.samples[1:]
	}
	if s.Rate > 0 || s.Remaining != 0 {
		return
	}
	s.Remaining = -1
	first := d.samples[0]
	if took := now.Sub(first.at).Seconds(); took > 0 && s.Done > first.done {
		rate := float64(s.Done-first.done) / took
		s.Rate = uint64(rate)
		if s.Total >= s.Done {
			s.Remaining = time.Duration(float64(s.Total-s.Done) / rate * float64(time.Second))
		}
	}
}

// line is one state in words.
func line(s State, bar bool) string {
	var b strings.Builder
	b.WriteString(s.Phase)
	if s.Total > 0 {
		share := float64(s.Done) / float64(s.Total)
		if bar {
			full := min(barWidth, int(share*barWidth))
			fmt.Fprintf(&b, " [%s%s]", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full))
		}
		fmt.Fprintf(&b, " %3.0f%% of %s", share*100, units.Bytes(s.Total))
	}
	if s.Rate > 0 {
		fmt.Fprintf(&b, ", %s/s", units.Bytes(s.Rate))
	}
	if s.Rate > 0 && s.Remaining >= 0 && s.Done < s.Total {
		fmt.Fprintf(&b, ", %s left", s.Remaining.Round(time.Second))
	}
	return b.String()
}
