package units_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/units"
)

func TestBytes(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 30: "1 GiB", 1<<64 - 1: "16 EiB"} {
		if got := units.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{"0": 0, "17": 17, "1k": 1 << 10, "512MiB": 512 << 20, "2 GB": 2 << 30, "3T": 3 << 40} {
		if got, err := units.ParseBytes(text); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "1X", "-1", "1.5G", "99999999999999999999", "20000000P", "1KM", "1I"} {
		if got, err := units.ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		}
	}
}
