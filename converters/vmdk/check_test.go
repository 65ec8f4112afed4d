package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

// findings checks b as an image that was opened for its description, and returns how bad what was found is.
func findings(t *testing.T, b []byte) []image.Severity {
	t.Helper()
	r, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "checked"), image.OpenOptions{InfoOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	c, ok := r.(image.Checker)
	if !ok {
		t.Fatal("cannot be checked")
	}
	var got []image.Severity
	err = c.Check(t.Context(), func(f image.Finding) {
		t.Logf("%s at %d: %s", f.Severity, f.Offset, f.Text)
		got = append(got, f.Severity)
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	return got
}

// tableOf returns the offset of the first grain table that the directory whose place the header has at the given offset names.
func tableOf(b []byte, at int) int {
	directory := int(binary.LittleEndian.Uint64(b[at:])) * sector
	return int(binary.LittleEndian.Uint32(b[directory:])) * sector
}

func TestCheckSparse(t *testing.T) {
	t.Parallel()
	const leak, corruption = image.Leak, image.Corruption
	const atRedundant, atPrimary = 48, 56
	// entry sets an entry of both grain tables.
	entry := func(i int, value uint32) func([]byte) []byte {
		return func(b []byte) []byte {
			return both(put32(tableOf(b, atPrimary)+4*i, value), put32(tableOf(b, atRedundant)+4*i, value))(b)
		}
	}
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		want   []image.Severity
	}{
		"good":               {both(), nil},
		"copy differs":       {func(b []byte) []byte { return put32(tableOf(b, atRedundant), 0)(b) }, []image.Severity{corruption}},
		"directory outside":  {put64(atPrimary, 1<<40), []image.Severity{corruption}},
		"copy outside":       {put64(atRedundant, 1<<40), []image.Severity{corruption}},
		"zeroed, no flag":    {entry(0, 1), []image.Severity{leak, corruption}},
		"grain leaked":       {entry(0, 0), []image.Severity{leak}},
		"grain outside":      {entry(3, 1<<30), []image.Severity{corruption}},
		"grain in metadata":  {entry(3, 22), []image.Severity{corruption}},
		"grain twice":        {func(b []byte) []byte { return entry(3, binary.LittleEndian.Uint32(b[tableOf(b, atPrimary):]))(b) }, []image.Severity{corruption}},
		"grains overlap":     {func(b []byte) []byte { return entry(3, binary.LittleEndian.Uint32(b[tableOf(b, atPrimary):])+1)(b) }, []image.Severity{corruption}},
		"a grain at the end": {func(b []byte) []byte { return append(b, make([]byte, grain)...) }, []image.Severity{leak}},
		"less than a grain":  {func(b []byte) []byte { return append(b, make([]byte, grain-1)...) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := findings(t, c.damage(sparse(t))); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
}

func TestCheckStream(t *testing.T) {
	t.Parallel()
	const leak, corruption = image.Leak, image.Corruption
	b := stream(t)
	second := firstGrain + (12+int(binary.LittleEndian.Uint32(b[firstGrain+8:]))+sector-1)/sector*sector
	third := second + (12+int(binary.LittleEndian.Uint32(b[second+8:]))+sector-1)/sector*sector
	table := third + (12+int(binary.LittleEndian.Uint32(b[third+8:]))+sector-1)/sector*sector + sector
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		want   []image.Severity
	}{
		"good":                  {both(), nil},
		"grain is in no table":  {put32(table, 0), []image.Severity{leak}},
		"grain is elsewhere":    {put32(table, uint32(second/sector)), []image.Severity{leak, corruption}},
		"table names the table": {put32(table+8, uint32(table/sector)), []image.Severity{corruption}},
		"table names the end":   {put32(table+8, 1<<30), []image.Severity{corruption}},
		"marker of other grain": {put64(second, 3*128), []image.Severity{leak, corruption}},
		"marker of no grain":    {put64(second, 10*128), []image.Severity{corruption, corruption}},
		"marker of kind 9":      {func(b []byte) []byte { clear(b[second : second+16]); return put32(second+12, 9)(b) }, []image.Severity{corruption, corruption}},
		"record too long":       {put32(second+8, 1<<31), []image.Severity{corruption, corruption}},
		"end too early":         {func(b []byte) []byte { clear(b[third : third+16]); return b }, []image.Severity{corruption}},
		"two ends":              {func(b []byte) []byte { return slices.Insert(b, len(b)-3*sector, make([]byte, 200*sector)...) }, []image.Severity{leak}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := findings(t, c.damage(bytes.Clone(b))); !slices.Equal(got, c.want) {
				t.Errorf("found %v, want %v", got, c.want)
			}
		})
	}
}

// TestCheckQemu checks what qemu-img writes.
func TestCheckQemu(t *testing.T) {
	t.Parallel()
	for _, variant := range []string{"monolithicSparse", "streamOptimized"} {
		for seed, size := range []int64{4_000_256, 70 << 20} {
			path := filepath.Join(t.TempDir(), "q.vmdk")
			imagetest.Qemu(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+variant, imagetest.Raw(t, imagetest.RandomDisk(uint64(seed), size)), path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := findings(t, b); got != nil {
				t.Errorf("%s of %d bytes: found %v", variant, size, got)
			}
		}
	}
}
