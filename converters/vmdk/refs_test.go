package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

// TestDamagedExtents reads disks of several files that contradict each other.
func TestDamagedExtents(t *testing.T) {
	t.Parallel()
	content := bytesOf(t, imagetest.RandomDisk(9, 4<<20))
	sparse := imagetest.Bytes(t, plainHarness(), plainHarness().Variants[0], memory(content))
	cow, se := cowd(content, 8), seSparse(content, nil)
	seGrain := func(v uint64) func([]byte) []byte { // sets the first entry of the last table, which is the one in use
		return put64((seTables+7*64)*sector, v)
	}
	for name, c := range map[string]struct {
		line   string
		file   []byte
		damage func([]byte) []byte
		want   error
	}{
		"flat":                     {`RW 8192 FLAT "x" 0`, content, nil, nil},
		"flat too short":           {`RW 8193 FLAT "x" 0`, content, nil, image.ErrTruncated},
		"flat, offset too large":   {`RW 8192 FLAT "x" 1`, content, nil, image.ErrTruncated},
		"flat, offset of 2^60":     {`RW 8192 FLAT "x" 1152921504606846976`, content, nil, image.ErrCorrupt},
		"flat, offset and size":    {`RW 9007199254740992 FLAT "x" 18014398509481983`, content, nil, image.ErrLimit},
		"flat of 2^64":             {`RW 18446744073709551616 FLAT "x" 0`, content, nil, image.ErrCorrupt},
		"flat of -1":               {`RW -1 FLAT "x" 0`, content, nil, image.ErrCorrupt},
		"flat, no number":          {`RW FLAT "x" 0`, content, nil, image.ErrCorrupt},
		"flat without name":        {`RW 8192 FLAT`, content, nil, image.ErrCorrupt},
		"flat with half a name":    {`RW 8192 FLAT "x`, content, nil, image.ErrCorrupt},
		"no access":                {`NOACCESS 8192 FLAT "x" 0`, content, nil, image.ErrUnsupported},
		"no access to nothing":     {`NOACCESS 8192 ZERO`, content, nil, image.ErrUnsupported},
		"unknown kind":             {`RW 8192 LUMPY "x"`, content, nil, image.ErrUnsupported},
		"device":                   {`RW 8192 VMFSRDM "x"`, content, nil, image.ErrUnsupported},
		"sparse":                   {`RW 8192 SPARSE "x"`, sparse, nil, nil},
		"sparse, smaller":          {`RW 8191 SPARSE "x"`, sparse, nil, nil},
		"sparse, larger":           {`RW 8193 SPARSE "x"`, sparse, nil, image.ErrCorrupt},
		"sparse is flat":           {`RW 8192 SPARSE "x"`, content, nil, image.ErrCorrupt},
		"sparse is empty":          {`RW 8192 SPARSE "x"`, nil, nil, image.ErrCorrupt},
		"sparse is a descriptor":   {`RW 8192 SPARSE "x"`, describe("vmfs"), nil, image.ErrCorrupt},
		"sparse is seSparse":       {`RW 8192 SPARSE "x"`, se, nil, image.ErrCorrupt},
		"COWD":                     {`RW 8192 VMFSSPARSE "x"`, cow, nil, nil},
		"COWD, short header":       {`RW 8192 VMFSSPARSE "x"`, cow[:2047], nil, image.ErrTruncated},
		"COWD, version 2":          {`RW 8192 VMFSSPARSE "x"`, cow, put32(4, 2), image.ErrUnsupported},
		"COWD, larger":             {`RW 8193 VMFSSPARSE "x"`, cow, nil, image.ErrCorrupt},
		"COWD, no grain":           {`RW 8192 VMFSSPARSE "x"`, cow, put32(16, 0), image.ErrCorrupt},
		"COWD, grain 3":            {`RW 8192 VMFSSPARSE "x"`, cow, put32(16, 3), image.ErrCorrupt},
		"COWD, grain 2^31":         {`RW 8192 VMFSSPARSE "x"`, cow, put32(16, 1<<31), image.ErrCorrupt},
		"COWD, no directory":       {`RW 8192 VMFSSPARSE "x"`, cow, put32(20, 0), image.ErrTruncated},
		"COWD, directory outside":  {`RW 8192 VMFSSPARSE "x"`, cow, put32(20, 1<<31), image.ErrTruncated},
		"COWD, directory small":    {`RW 8192 VMFSSPARSE "x"`, cow, put32(24, 0), image.ErrCorrupt},
		"COWD, directory past end": {`RW 8192 VMFSSPARSE "x"`, cow, put32(12, 1<<32-1), image.ErrCorrupt},
		"COWD, table outside":      {`RW 8192 VMFSSPARSE "x"`, cow, put32(4*sector, 1<<31), image.ErrTruncated},
		"COWD, table is header":    {`RW 8192 VMFSSPARSE "x"`, cow, put32(4*sector, 3), image.ErrCorrupt},
		"COWD, grain outside":      {`RW 8192 VMFSSPARSE "x"`, cow, put32(5*sector+4*100, 1<<31), image.ErrTruncated},
		"COWD, grain is header":    {`RW 8192 VMFSSPARSE "x"`, cow, put32(5*sector+4*100, 1), image.ErrCorrupt},
		"COWD, cut":                {`RW 8192 VMFSSPARSE "x"`, cow[:len(cow)-sector], nil, image.ErrTruncated},
		"COWD, not closed":         {`RW 8192 VMFSSPARSE "x"`, cow, put32(1648, 1), nil},
		"seSparse":                 {`RW 8192 SESPARSE "x"`, se, nil, nil},
		"seSparse is flat":         {`RW 8192 SESPARSE "x"`, content, nil, image.ErrCorrupt},
		"seSparse, short":          {`RW 8192 SESPARSE "x"`, se[:511], nil, image.ErrTruncated},
		"seSparse, larger":         {`RW 8193 SESPARSE "x"`, se, nil, image.ErrCorrupt},
		"seSparse, version":        {`RW 8192 SESPARSE "x"`, se, put64(8, 0x200000002), image.ErrUnsupported},
		"seSparse, grain":          {`RW 8192 SESPARSE "x"`, se, put64(24, 16), image.ErrUnsupported},
		"seSparse, table":          {`RW 8192 SESPARSE "x"`, se, put64(32, 0), image.ErrUnsupported},
		"seSparse, flags":          {`RW 8192 SESPARSE "x"`, se, put64(40, 1), image.ErrUnsupported},
		"seSparse, 2^63 sectors":   {`RW 8192 SESPARSE "x"`, se, put64(16, 1<<63), image.ErrLimit},
		"seSparse, 2^53 sectors":   {`RW 8192 SESPARSE "x"`, se, put64(16, 1<<53), image.ErrLimit},
		"seSparse, 2^36 sectors":   {`RW 8192 SESPARSE "x"`, se, put64(16, 1<<36), image.ErrCorrupt},
		"seSparse, no volatile":    {`RW 8192 SESPARSE "x"`, se, put64(80, 0), image.ErrCorrupt},
		"seSparse, volatile out":   {`RW 8192 SESPARSE "x"`, se, put64(80, 1<<60), image.ErrTruncated},
		"seSparse, dirty":          {`RW 8192 SESPARSE "x"`, se, put64(seVolatile*sector+24, 1), image.ErrUnsupported},
		"seSparse, no directory":   {`RW 8192 SESPARSE "x"`, se, put64(128, 0), image.ErrTruncated},
		"seSparse, directory out":  {`RW 8192 SESPARSE "x"`, se, put64(128, 1<<63), image.ErrTruncated},
		"seSparse, directory of 0": {`RW 8192 SESPARSE "x"`, se, put64(136, 0), image.ErrCorrupt},
		"seSparse, tables out":     {`RW 8192 SESPARSE "x"`, se, put64(144, 1<<54), image.ErrTruncated},
		"seSparse, grains out":     {`RW 8192 SESPARSE "x"`, se, put64(192, 1<<63), image.ErrTruncated},
		"seSparse, no tables":      {`RW 8192 SESPARSE "x"`, se, put64(152, 0), image.ErrCorrupt},
		"seSparse, table type":     {`RW 8192 SESPARSE "x"`, se, put64(seDirectory*sector, 2<<60), image.ErrCorrupt},
		"seSparse, table index":    {`RW 8192 SESPARSE "x"`, se, put64(seDirectory*sector, 1<<60|8), image.ErrCorrupt},
		"seSparse, table past end": {`RW 8192 SESPARSE "x"`, se, both(put64(152, 1<<60), put64(seDirectory*sector, 1<<60|0xffff_ffff)), image.ErrTruncated},
		"seSparse, grain type 4":   {`RW 8192 SESPARSE "x"`, se, seGrain(4 << 60), image.ErrCorrupt},
		"seSparse, no type":        {`RW 8192 SESPARSE "x"`, se, seGrain(5), image.ErrCorrupt},
		"seSparse, grain outside":  {`RW 8192 SESPARSE "x"`, se, seGrain(3<<60 | 0xfff<<48 | 1), image.ErrTruncated},
		"seSparse, grain 2^60-1":   {`RW 8192 SESPARSE "x"`, se, seGrain(1<<62 - 1), image.ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := bytes.Clone(c.file)
			if c.damage != nil {
				file = c.damage(file)
			}
			all := files{"disk.vmdk": describe("custom", c.line), "x": file}
			if err := all.openAndRead("disk.vmdk"); !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
		})
	}
}

// TestSharedTables refuses a small extent whose directory names the same table all over.
func TestSharedTables(t *testing.T) {
	t.Parallel()
	b := cowd(make([]byte, 4<<20), 8)
	binary.LittleEndian.PutUint32(b[12:], 1<<32-8)
	binary.LittleEndian.PutUint32(b[24:], 1<<17)
	b = append(b, make([]byte, 1<<20)...)
	for i := range 1 << 17 {
		binary.LittleEndian.PutUint32(b[4*sector+4*i:], 4)
	}
	all := files{"disk.vmdk": describe("vmfsSparse", `RW 4294967288 VMFSSPARSE "x"`), "x": b}
	r, err := all.open("disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.NextExtent(0); !errors.Is(err, image.ErrCorrupt) {
		t.Errorf("error is %v, want ErrCorrupt", err)
	}
}

// TestParents opens differencing disks whose parent is not what it was.
func TestParents(t *testing.T) {
	t.Parallel()
	zero := describe("custom", "RW 8 ZERO")
	for name, c := range map[string]struct {
		child []byte
		want  error
		says  string
	}{
		"good":              {childOf(zero, "1A2B3C4D", "base"), nil, ""},
		"parent changed":    {childOf(zero, "1a2b3c4e", "base"), image.ErrReference, "1a2b3c4e"},
		"no content ID":     {childOf(zero, "ffffffff", "base"), image.ErrReference, "1a2b3c4d"},
		"parent is missing": {childOf(zero, "1a2b3c4d", "gone"), image.ErrReference, "gone"},
		"no name":           {childOf(zero, "1a2b3c4d", ""), image.ErrReference, "1a2b3c4d"},
		"path":              {childOf(zero, "1a2b3c4d", "../base"), image.ErrReference, "../base"},
		"parent is damaged": {childOf(zero, "1a2b3c4d", "damaged"), image.ErrCorrupt, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := files{"base": zero, "damaged": describe("vmfs"), "disk": c.child}
			err := all.openAndRead("disk")
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
}

// TestSizeOfAll adds extents up to more than fits.
func TestSizeOfAll(t *testing.T) {
	t.Parallel()
	b := describe("custom", "RW 18014398509481983 ZERO")
	r, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "huge"), image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := r.NextExtent(1 << 62); err != nil || e.Kind != image.Zero || e.Len != 1<<63-512-1<<62 {
		t.Errorf("extent is %+v, %v", e, err)
	}
	b = append(b, "RW 1 ZERO\n"...)
	if _, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "huge"), image.OpenOptions{InfoOnly: true}); !errors.Is(err, image.ErrLimit) {
		t.Errorf("error is %v, want ErrLimit", err)
	}
}

// TestInfoOnly describes a differencing disk of several files without opening any.
func TestInfoOnly(t *testing.T) {
	t.Parallel()
	b := childOf(describe("vmfsSparse", `RW 100 VMFSSPARSE "a-delta"`, `RW 28 FLAT "../b" 5`, "RW 3 ZERO"), "ABCD", "C:\\base.vmdk")
	r, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "delta"), image.OpenOptions{InfoOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	want := image.Info{
		Format: "vmdk", Variant: "vmfsSparse", VirtualSize: 131 * 512, FileSize: int64(len(b)), SectorSize: 512, ContentID: "5e6f7081",
		References: []image.Reference{
			{Kind: "extent", Name: "a-delta", Format: "vmdk"},
			{Kind: "extent", Name: "../b", Format: "raw"},
			{Kind: "parent", Name: "C:\\base.vmdk", Format: "vmdk"},
		},
	}
	if diff := cmp.Diff(want, r.Info()); diff != "" {
		t.Error(diff)
	}
	if _, err := r.ReadAt(make([]byte, 1), 0); err == nil {
		t.Error("content is read")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestChoices refuses what the format does not have.
func TestChoices(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{sparse(t), describe("custom", "RW 8 ZERO")} {
		for _, o := range []image.OpenOptions{{Snapshot: "a"}, {Member: "a"}} {
			if _, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "x"), o); !errors.Is(err, image.ErrUnsupported) {
				t.Errorf("%+v: %v, want ErrUnsupported", o, err)
			}
		}
	}
}
