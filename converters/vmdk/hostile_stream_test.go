package vmdk_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

// record returns a grain's record with the given zlib content.
func record(t *testing.T, lba uint64, plain []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := binary.LittleEndian.AppendUint64(nil, lba)
	b = binary.LittleEndian.AppendUint32(b, uint32(z.Len()))
	return append(b, z.Bytes()...)
}

func TestDamagedStreamFile(t *testing.T) {
	t.Parallel()
	b := stream(t)
	size := int(binary.LittleEndian.Uint32(b[firstGrain+8:]))
	imagetest.Damages(t, harness(), b, map[string]imagetest.Damage{
		"untouched":              damage(func(b []byte) []byte { return b }, nil),
		"no end marker":          damage(func(b []byte) []byte { return b[:len(b)-sector] }, image.ErrTruncated),
		"no footer":              damage(func(b []byte) []byte { return b[:len(b)-3*sector] }, image.ErrTruncated),
		"footer without magic":   damage(fromEnd(put64, 1024, 0), image.ErrCorrupt),
		"footer, other size":     damage(fromEnd(put64, 1024-12, 5), image.ErrCorrupt),
		"footer, other grain":    damage(fromEnd(put64, 1024-20, 16), image.ErrCorrupt),
		"footer without place":   damage(fromEnd(put64, 1024-56, 1<<64-1), image.ErrCorrupt),
		"directory past the end": damage(fromEnd(put64, 1024-56, 1<<50), image.ErrTruncated),
		"grain for other sector": damage(put64(firstGrain, 128), image.ErrCorrupt),
		"grain without size":     damage(put32(firstGrain+8, 0), image.ErrCorrupt),
		"grain of 2^32-1":        damage(put32(firstGrain+8, 1<<32-1), image.ErrCorrupt),
		"grain too short":        damage(put32(firstGrain+8, 6), image.ErrCorrupt),
		"wrong checksum":         damage(put32(firstGrain+12+size-4, 0), image.ErrCorrupt),
		"no zlib header":         damage(put32(firstGrain+12, 0), image.ErrCorrupt),
		"preset dictionary":      damage(putText(firstGrain+12, "\x78\xbb"), image.ErrCorrupt),
		"one byte more":          damage(putText(firstGrain, string(record(t, 0, make([]byte, grain+1)))), image.ErrCorrupt),
		"one byte less":          damage(putText(firstGrain, string(record(t, 0, make([]byte, grain-1)))), image.ErrCorrupt),
		"bomb":                   damage(putText(firstGrain, string(record(t, 0, make([]byte, 9*grain)))), image.ErrCorrupt),
		"garbage":                damage(putText(firstGrain+14, "\xff\xff\xff\xff"), image.ErrCorrupt),
	})
}

// TestShortLastGrain reads a disk whose last grain was deflated only as far as the disk goes, as VMware's tools do.
func TestShortLastGrain(t *testing.T) {
	t.Parallel()
	want := &imagetest.Disk{Size: grain + 1024, Pieces: []imagetest.Piece{{Off: 0, Len: grain + 1024, Content: imagetest.Text}}}
	b := imagetest.Bytes(t, harness(), imagetest.Variant{}, want)
	plain := make([]byte, 1024)
	if _, err := want.ReadAt(plain, grain); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	second := firstGrain + (12+int(binary.LittleEndian.Uint32(b[firstGrain+8:]))+sector-1)/sector*sector
	for n, wantErr := range map[int]error{1024: nil, 1023: image.ErrCorrupt} {
		b := putText(second, string(record(t, 128, plain[:n])))(bytes.Clone(b))
		if err := streamError(b); !errors.Is(err, wantErr) {
			t.Errorf("%d bytes as a stream: %v, want %v", n, err, wantErr)
		}
		r, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "short"), image.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if wantErr == nil {
			imagetest.Same(t, want, r)
		} else if err := imagetest.OpenAndDrain(harness(), b); !errors.Is(err, wantErr) {
			t.Errorf("%d bytes: %v, want %v", n, err, wantErr)
		}
	}
}

// streamError opens b as a stream, reads it to its end and returns the error, nil for a good end.
func streamError(b []byte) error {
	s, err := vmdk.OpenStream(bytes.NewReader(b), -1)
	if err != nil {
		return err
	}
	dst := make([]byte, 2<<20)
	for {
		c, err := s.Next()
		if err != nil {
			if err.Error() == "EOF" {
				return nil
			}
			return err
		}
		err = c.Decode(dst[:c.Len])
		c.Release()
		if err != nil {
			return err
		}
	}
}

func TestDamagedStream(t *testing.T) {
	t.Parallel()
	b := stream(t)
	second := firstGrain + (12+int(binary.LittleEndian.Uint32(b[firstGrain+8:]))+sector-1)/sector*sector
	marker := func(value uint64, kind uint32) []byte {
		m := make([]byte, sector)
		binary.LittleEndian.PutUint64(m, value)
		binary.LittleEndian.PutUint32(m[12:], kind)
		return m
	}
	insert := func(at int, p []byte) func([]byte) []byte {
		return func(b []byte) []byte { return slices.Insert(b, at, p...) }
	}
	for name, d := range map[string]imagetest.Damage{
		"untouched":             damage(func(b []byte) []byte { return b }, nil),
		"twice the same grain":  damage(put64(second, 0), image.ErrCorrupt),
		"grain is moved":        damage(put64(second, 3*128), image.ErrCorrupt),
		"grain past the disk":   damage(put64(second, 10*128), image.ErrCorrupt),
		"grain of no grain":     damage(put64(second, 129), image.ErrCorrupt),
		"grain too large":       damage(put32(second+8, 2*grain+1), image.ErrCorrupt),
		"grain is missing":      damage(func(b []byte) []byte { return slices.Delete(b, firstGrain, second) }, image.ErrCorrupt),
		"marker of kind 9":      damage(insert(second, marker(0, 9)), image.ErrCorrupt),
		"progress shifts":       damage(insert(second, marker(0, 4)), image.ErrCorrupt), // the tables no longer agree
		"progress to the end":   damage(insert(second, marker(1<<63, 4)), image.ErrTruncated),
		"end too early":         damage(insert(second, marker(0, 0)), image.ErrCorrupt),
		"end with sectors":      damage(fromEnd(put64, sector, 1), image.ErrCorrupt),
		"table too small":       damage(insert(second, marker(1, 1)), image.ErrCorrupt),
		"one table too many":    damage(insert(second, append(marker(4, 1), make([]byte, 4*sector)...)), image.ErrCorrupt),
		"directory too small":   damage(fromEnd(put64, 5*sector, 0), image.ErrCorrupt),
		"footer of two sectors": damage(fromEnd(put64, 3*sector, 2), image.ErrCorrupt),
		"footer, other place":   damage(fromEnd(put64, 1024-56, 199), image.ErrCorrupt),
		"monolithicSparse":      damage(put32(8, 1), image.ErrUnsupported),
		"huge disk":             damage(put64(12, 1<<50), image.ErrLimit),
		"descriptor of 2^60":    damage(put64(36, 1<<60), image.ErrLimit),
		"descriptor too late":   damage(put64(28, 1000), image.ErrCorrupt),
		"overhead too small":    damage(put64(64, 3), image.ErrCorrupt),
		"overhead past the end": damage(put64(64, 1<<60), image.ErrTruncated),
		"descriptor file":       damage(putText(0, "# Disk DescriptorFile\n"), image.ErrReference),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := streamError(d.Patch(bytes.Clone(b))); !errors.Is(err, d.Want) {
				t.Errorf("error is %v, want %v", err, d.Want)
			}
		})
	}
}
