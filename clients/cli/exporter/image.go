package exporter

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) convertCommand() *cobra.Command {
	var v Convert
	var cluster, maxOutput string
	c := &cobra.Command{
		Use: "convert SOURCE TARGET", Short: "Convert a disk image", Args: cobra.ExactArgs(2),
		Example: `  hyperexport convert disk.vmdk disk.qcow2 --to qcow2
  hyperexport convert disk.vmdk disk.qcow2 --to qcow2 --compress zlib`,
		RunE: func(c *cobra.Command, args []string) error {
			v.Source, v.Target = args[0], args[1]
			for text, into := range map[*string]*int64{&cluster: &v.ClusterSize, &maxOutput: &v.MaxOutput} {
				if *text == "" {
					continue
				}
				n, err := units.ParseBytes(*text)
				if err != nil {
					return err
				}
				*into = int64(n)
			}
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
			return output.WriteValue(c.OutOrStdout(), a.format, res, func() output.Rows {
				var r output.Rows
				r.Add("File", res.Path)
				r.Add("Size", units.Bytes(uint64(res.Size)))
				r.Add("Virtual size", units.Bytes(uint64(res.VirtualSize)))
				r.Add("Content SHA-256", res.ContentSHA256)
				return r
			})
		},
	}
	s := c.Flags()
	s.StringVar(&v.To, "to", "", "format of the target: qcow2, raw or vmdk")
	_ = c.MarkFlagRequired("to") // the flag was just made
	s.StringVar(&v.From, "from", "", "format of the source (default: found by looking)")
	s.StringVar(&v.Compress, "compress", "none", "none or zlib")
	s.IntVar(&v.Level, "level", 0, "compression level, 1 (fastest) to 9")
	s.IntVar(&v.Workers, "workers", 0, "number of workers (default: one for each processor)")
	s.StringVar(&cluster, "cluster-size", "", "`size` of a cluster of the target")
	s.StringVar(&maxOutput, "max-output", "", "fail if the target would get larger than this `size`")
	s.BoolVar(&v.Force, "force", false, "replace the target if it exists")
	s.BoolVar(&v.Trust, "trust-compressed", false, "pass compressed data on without checking it")
	return c
}

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "inspect IMAGE", Short: "Describe a disk image; opens only that file and reads at most 1 MiB of it", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			info, err := a.engine.Inspect(args[0])
			if err != nil {
				return err
			}
			return output.WriteValue(c.OutOrStdout(), a.format, inspected(args[0], info), func() output.Rows { return infoRows(info) })
		},
	}
}

// inspection is what programs read of an image.
type inspection struct {
	Path        string            `json:"path"`
	Format      string            `json:"format"`
	Variant     string            `json:"variant,omitempty"`
	VirtualSize int64             `json:"virtual_size"`
	FileSize    int64             `json:"file_size"`
	ClusterSize int64             `json:"cluster_size,omitempty"`
	Compression string            `json:"compression,omitempty"`
	References  []image.Reference `json:"references,omitempty"`
	Warnings    []string          `json:"warnings,omitempty"`
}

func inspected(path string, i image.Info) inspection {
	return inspection{path, i.Format, i.Variant, i.VirtualSize, i.FileSize, i.ClusterSize, i.Compression, i.References, i.Warnings}
}

func infoRows(i image.Info) output.Rows {
	var r output.Rows
	r.Add("Format", strings.TrimSpace(i.Format+" "+i.Variant))
	r.Add("Virtual size", fmt.Sprintf("%s (%d bytes)", units.Bytes(uint64(i.VirtualSize)), i.VirtualSize))
	r.Add("File size", units.Bytes(uint64(i.FileSize)))
	if i.ClusterSize > 0 {
		r.Add("Cluster size", units.Bytes(uint64(i.ClusterSize)))
	}
	if i.Compression != "" {
		r.Add("Compression", i.Compression)
	}
	for _, ref := range i.References {
		r.Add("Refers to", ref.Kind+" "+ref.Name)
	}
	for _, w := range i.Warnings {
		r.Add("Warning", w)
	}
	return r
}

func (a *app) compareCommand() *cobra.Command {
	return &cobra.Command{
		Use: "compare A B", Short: "Compare the content of two disk images", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := a.engine.Compare(c.Context(), args[0], args[1])
			if err != nil {
				return fault.As(fault.InvalidArgument, err, "compare")
			}
			if at >= 0 {
				return fault.New(fault.Unknown, "the images differ, first at byte %d", at)
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "the images have the same content")
			return err
		},
	}
}
