package exporter

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

// Convert is a conversion to do. A Target of "-" is standard output, a Source path of "-" standard input.
type Convert struct {
	Source                 Image
	Target, To, Variant    string
	Compress               string
	Level, Workers, Window int
	ClusterSize, MaxOutput int64
	// MaxRatio is how many bytes of content the source may yield for each byte of its file; 0 is any number.
	MaxRatio               int64
	Backing, BackingFormat string
	Force, Trust, Resume   bool
	// SHA256 computes the digests of the disk's content and of the file.
	SHA256   bool
	Progress func(progress.State)
}

// Converted is what a conversion made.
type Converted struct {
	Path          string   `json:"path"`
	Format        string   `json:"format"`
	Size          int64    `json:"size"`
	VirtualSize   int64    `json:"virtual_size"`
	DataBytes     int64    `json:"data_bytes"`
	ContentSHA256 string   `json:"content_sha256,omitempty"`
	SHA256        string   `json:"sha256,omitempty"`
	ResumedAt     int64    `json:"resumed_at,omitempty"`
	Warnings      []string `json:"warnings,omitempty"`
}

// convertFlags are the flags of convert as they are given.
type convertFlags struct {
	Convert
	from, cluster, maxOutput, window string
	image                            imageFlags
}

func (a *app) convertCommand() *cobra.Command {
	var f convertFlags
	c := &cobra.Command{
		Use: "convert SOURCE TARGET", Short: "Convert a disk image", Args: cobra.ExactArgs(2),
		Long: `convert copies the disk in one image into an image of another format. Zeros and holes take no room in the target. The target gets its name
when it is complete; until then nothing is there.

SOURCE and TARGET may be "-": formats that can be read or written front to back then come from standard input and go to standard output.`,
		Example: `  hyperexport convert disk.vmdk disk.qcow2 --to qcow2
  hyperexport convert disk.vmdk disk.qcow2 --to qcow2 --compress zstd
  hyperexport convert vm.ova - --to raw > disk.img
  hyperexport convert today.raw today.qcow2 --to qcow2 --backing yesterday.qcow2`,
		RunE: func(c *cobra.Command, args []string) error {
			v, err := f.parse(args)
			if err != nil {
				return err
			}
			return a.convert(c, v)
		},
	}
	f.bind(c)
	complete(c, "to", a.engine.Writable()...)
	complete(c, "from", a.engine.Readable()...)
	return c
}

func (f *convertFlags) bind(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.To, "to", "", "`format` of the target: qcow2, raw, vdi, vhd (or vpc), vhdx or vmdk")
	_ = c.MarkFlagRequired("to") // the flag was just made
	s.StringVar(&f.from, "from", "", "`format` of the source (default: found by looking)")
	s.StringVar(&f.Variant, "subformat", "", "variant of the target's format, for instance monolithicSparse (vmdk), fixed (vhd, vhdx, vdi), extended-l2 (qcow2)")
	s.StringVar(&f.Compress, "compress", "none", "none, zlib or zstd")
	s.IntVar(&f.Level, "level", 0, "compression level, 1 (fastest) to 9")
	s.StringVar(&f.window, "window", "", "how far back zlib may refer: 4k is what qemu-img writes, 32k (the default) compresses better")
	s.IntVar(&f.Workers, "workers", 0, "number of workers (default: what suits the number of processors)")
	s.StringVar(&f.cluster, "cluster-size", "", "`size` of the target's unit of allocation")
	s.StringVar(&f.Backing, "backing", "", "write only the differences to this `file`, which must lie in the target's folder")
	s.StringVar(&f.BackingFormat, "backing-format", "", "`format` of the backing file (default: found by looking)")
	s.StringVar(&f.maxOutput, "max-output", "", "fail if the target would get larger than this `size`")
	s.Int64Var(&f.MaxRatio, "max-ratio", 1000, "fail if the source yields more bytes for each byte of its file than this; honest compression stays below; 0 = no limit")
	s.BoolVar(&f.Force, "force", false, "replace the target if it exists")
	s.BoolVar(&f.Resume, "resume", false, "keep an unfinished target, and go on with one that an interrupted run has kept")
	s.BoolVar(&f.SHA256, "sha256", false, "compute the SHA-256 of the disk's content and of the file on the way")
	s.BoolVar(&f.Trust, "trust-compressed", false, "pass compressed data on without checking it")
	f.image.bind(c)
	f.image.bindContent(s)
	complete(c, "compress", "none", "zlib", "zstd")
}

// parse makes the request of the flags.
func (f *convertFlags) parse(args []string) (v Convert, err error) {
	v = f.Convert
	v.Target, v.To, v.BackingFormat = args[1], formatName(f.To), formatName(f.BackingFormat)
	if v.Source, err = f.image.image(args[0], f.from); err != nil {
		return v, err
	}
	if v.ClusterSize, err = parseSize("cluster-size", f.cluster); err != nil {
		return v, err
	}
	if v.MaxOutput, err = parseSize("max-output", f.maxOutput); err != nil {
		return v, err
	}
	window, err := parseSize("window", f.window)
	v.Window = int(window)
	return v, err
}

func (a *app) convert(c *cobra.Command, v Convert) error {
	d, err := a.display(c)
	if err != nil {
		return err
	}
	defer d.Close()
	v.Progress = d.Update
	res, err := a.engine.Convert(c.Context(), v)
	d.Close()
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if v.Target == "-" {
		out = c.ErrOrStderr() // the image went to the other one
	}
	return output.WriteValue(out, a.format, res, func() output.Rows {
		var r output.Rows
		r.Add("File", res.Path)
		r.Add("Format", res.Format)
		r.Add("Size", units.Bytes(uint64(res.Size)))
		r.Add("Virtual size", units.Bytes(uint64(res.VirtualSize)))
		if res.ContentSHA256 != "" {
			r.Add("SHA-256", res.SHA256)
			r.Add("Content SHA-256", res.ContentSHA256)
		}
		if res.ResumedAt > 0 {
			r.Add("Resumed at", units.Bytes(uint64(res.ResumedAt)))
		}
		if len(res.Warnings) > 0 {
			r.Add("Warnings", strings.Join(res.Warnings, "; "))
		}
		return r
	})
}
