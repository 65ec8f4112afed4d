package main

// pair is a source and a target format, and how much faster than qemu-img the conversion has to be.
type pair struct {
	name string
	// source is the image to read; it is made once by qemu-img with these arguments. nil is the raw disk.
	source *source
	// format is qemu-img's name of the target's format.
	format string
	// ours and theirs are the arguments that choose the target.
	ours, theirs []string
	// required is the ratio of the times.
	required float64
	// equal says that the outputs must be of equal size, two per cent more or less.
	equal bool
}

// source is an image made by qemu-img.
type source struct {
	name, format string
	args         []string
}

func stream() *source {
	return &source{"stream.vmdk", "vmdk", []string{"-o", "subformat=streamOptimized"}}
}
func sparse() *source { return &source{"sparse.vmdk", "vmdk", nil} }
func qcow2() *source  { return &source{"plain.qcow2", "qcow2", nil} }
func zlib() *source   { return &source{"zlib.qcow2", "qcow2", []string{"-c", "-W", "-m", "16"}} }
func zstd() *source {
	return &source{"zstd.qcow2", "qcow2", []string{"-c", "-W", "-m", "16", "-o", "compression_type=zstd"}}
}
func vhd() *source  { return &source{"disk.vhd", "vpc", []string{"-o", "force_size=on"}} }
func vhdx() *source { return &source{"disk.vhdx", "vhdx", nil} }
func vdi() *source  { return &source{"disk.vdi", "vdi", nil} }

func to(format string, args ...string) []string { return append([]string{"--to", format}, args...) }

// pairs are all conversions that are measured, with what is required of them on two processors.
func pairs() []pair {
	deflated := []string{"-c"}
	zstandard := []string{"-c", "-o", "compression_type=zstd"}
	streaming := []string{"-o", "subformat=streamOptimized"}
	return []pair{
		{name: "streamOptimized to raw", source: stream(), format: "raw", ours: to("raw"), required: 2.5},
		{name: "streamOptimized to qcow2", source: stream(), format: "qcow2", ours: to("qcow2"), required: 2.5},
		{name: "streamOptimized to qcow2 zlib, checked", source: stream(), format: "qcow2", ours: to("qcow2", "--compress", "zlib"), theirs: deflated, required: 15},
		{
			name: "streamOptimized to qcow2 zlib, trusted", source: stream(), format: "qcow2", ours: to("qcow2", "--compress", "zlib", "--trust-compressed"),
			theirs: deflated, required: 30,
		},
		{name: "raw to streamOptimized", format: "vmdk", ours: to("vmdk"), theirs: streaming, required: 6, equal: true},
		{name: "qcow2 zlib to streamOptimized", source: zlib(), format: "vmdk", ours: to("vmdk"), theirs: streaming, required: 10},
		{name: "raw to qcow2 zlib", format: "qcow2", ours: to("qcow2", "--compress", "zlib"), theirs: deflated, required: 4, equal: true},
		{name: "raw to qcow2 zstd", format: "qcow2", ours: to("qcow2", "--compress", "zstd"), theirs: zstandard, required: 1.2, equal: true},
		{name: "qcow2 zlib to raw", source: zlib(), format: "raw", ours: to("raw"), required: 1.6},
		{name: "qcow2 zlib to qcow2", source: zlib(), format: "qcow2", ours: to("qcow2"), required: 1.6},
		{name: "qcow2 zstd to raw", source: zstd(), format: "raw", ours: to("raw"), required: 1.3},
		{name: "qcow2 zstd to qcow2", source: zstd(), format: "qcow2", ours: to("qcow2"), required: 1.3},
		{name: "vmdk sparse to raw", source: sparse(), format: "raw", ours: to("raw"), required: 2},
		{name: "raw to vmdk sparse", format: "vmdk", ours: to("vmdk", "--subformat", "monolithicSparse"), required: 2},
		{name: "raw to raw", format: "raw", ours: to("raw"), required: 1},
		{name: "raw to qcow2", format: "qcow2", ours: to("qcow2"), required: 1},
		{name: "qcow2 to raw", source: qcow2(), format: "raw", ours: to("raw"), required: 1},
		{name: "qcow2 to qcow2", source: qcow2(), format: "qcow2", ours: to("qcow2"), required: 1},
		{name: "raw to vhdx", format: "vhdx", ours: to("vhdx"), required: 1},
		{name: "vhdx to raw", source: vhdx(), format: "raw", ours: to("raw"), required: 1},
		{name: "raw to vhd", format: "vpc", ours: to("vhd"), theirs: []string{"-o", "force_size=on"}, required: 1},
		{name: "vhd to raw", source: vhd(), format: "raw", ours: to("raw"), required: 1},
		{name: "raw to vdi", format: "vdi", ours: to("vdi"), required: 1},
		{name: "vdi to raw", source: vdi(), format: "raw", ours: to("raw"), required: 1},
	}
}
