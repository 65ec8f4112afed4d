package replay_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// difference says what our server says otherwise than the stock server, and why that is right.
type difference struct {
	why string
	// ours has for each place the text that our server's value there contains. Places are as mismatches have them.
	ours map[string]string
}

// outcomes are what became of the recordings.
type outcomes struct {
	mu sync.Mutex
	by map[string]string
}

func (o *outcomes) note(t *testing.T, name, outcome string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.by == nil {
		o.by = make(map[string]string)
	}
	if was := o.by[name]; was != "" {
		t.Errorf("%s is played twice, or played and excused", name)
	}
	o.by[name] = outcome
}

const (
	asRecorded = "as recorded"
	otherwise  = "with a stated difference"
	notPlayed  = "not played"
)

// judge compares what was different with what is stated to be.
func judge(t *testing.T, name string, differ []mismatch) (outcome string) {
	t.Helper()
	stated, ok := differences()[name]
	open := maps.Clone(stated.ours)
	for _, m := range differ {
		want, ok := stated.ours[m.where]
		if m.ours == "<nil>" {
			m.ours = ""
		}
		if !ok || !strings.Contains(m.ours, want) || want == "" && strings.HasSuffix(m.where, "Error") && m.ours != "" {
			t.Error(m)
		}
		delete(open, m.where)
	}
	for where := range open {
		t.Errorf("%s no longer differs; take it out of the table", where)
	}
	if ok {
		return otherwise
	}
	return asRecorded
}

// account checks that every recording has an outcome.
func (o *outcomes) account(t *testing.T, dir string) {
	t.Helper()
	for name, why := range excused() {
		if why == "" {
			t.Errorf("%s is excused without a reason", name)
		}
		o.note(t, name, notPlayed)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".jsonl")
		if o.by[name] == "" {
			t.Errorf("%s is neither played nor excused", name)
		}
		count[o.by[name]]++
		delete(o.by, name)
	}
	for name := range o.by {
		t.Errorf("%s is no recording", name)
	}
	for _, outcome := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%d %s", count[outcome], outcome)
	}
}
