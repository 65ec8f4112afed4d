package all_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/all"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	r := all.Registry()
	if len(r.Names()) == 0 {
		t.Fatal("there are no providers")
	}
	log := slog.New(slog.DiscardHandler)
	_, err := r.Open(t.Context(), "vmware", driver.Settings{}, log)
	if !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("an unknown provider gives %v", err)
	}
	for _, name := range r.Names() {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not list %s: %v", name, err)
		}
		// Every provider refuses settings that are empty, before it talks to anybody.
		if _, err := r.Open(t.Context(), name, driver.Settings{}, log); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: empty settings give %v", name, err)
		}
	}
}
