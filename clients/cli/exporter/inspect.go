package exporter

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) inspectCommand() *cobra.Command {
	var f imageFlags
	var from string
	c := &cobra.Command{
		Use: "inspect IMAGE", Short: "Describe a disk image; opens only that file and reads at most 1 MiB of it", Args: cobra.ExactArgs(1),
		Example: `  hyperexport inspect disk.vmdk -o json`,
		RunE: func(c *cobra.Command, args []string) error {
			img, err := f.image(args[0], from)
			if err != nil {
				return err
			}
			info, err := a.engine.Inspect(img)
			if err != nil {
				return err
			}
			return output.WriteValue(c.OutOrStdout(), a.format, inspected(args[0], info), func() output.Rows { return infoRows(info) })
		},
	}
	f.refs = refsDeny
	f.bindContent(c.Flags())
	c.Flags().StringVar(&from, "from", "", "`format` of the image (default: found by looking)")
	complete(c, "from", a.engine.Readable()...)
	return c
}

// inspection is what programs read of an image.
type inspection struct {
	Path        string           `json:"path"`
	Format      string           `json:"format"`
	Variant     string           `json:"variant,omitempty"`
	VirtualSize int64            `json:"virtual_size"`
	FileSize    int64            `json:"file_size"`
	Allocated   int64            `json:"allocated"`
	ClusterSize int64            `json:"cluster_size,omitempty"`
	SectorSize  int64            `json:"sector_size,omitempty"`
	Compression string           `json:"compression,omitempty"`
	ContentID   string           `json:"content_id,omitempty"`
	References  []reference      `json:"references,omitempty"`
	Snapshots   []image.Snapshot `json:"snapshots,omitempty"`
	Members     []string         `json:"members,omitempty"`
	Warnings    []string         `json:"warnings,omitempty"`
}

type reference struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Format string `json:"format,omitempty"`
}

func inspected(path string, i image.Info) inspection {
	v := inspection{
		Path: path, Format: i.Format, Variant: i.Variant, VirtualSize: i.VirtualSize, FileSize: i.FileSize, Allocated: i.Allocated, ClusterSize: i.ClusterSize,
		SectorSize: i.SectorSize, Compression: i.Compression, ContentID: i.ContentID, Snapshots: i.Snapshots, Members: i.Members, Warnings: i.Warnings,
	}
	for _, r := range i.References {
		v.References = append(v.References, reference(r))
	}
	return v
}

func infoRows(i image.Info) output.Rows {
	var r output.Rows
	add := func(name, value string) {
		if value != "" {
			r.Add(name, value)
		}
	}
	r.Add("Format", strings.TrimSpace(i.Format+" "+i.Variant))
	r.Add("Virtual size", fmt.Sprintf("%s (%d bytes)", units.Bytes(uint64(i.VirtualSize)), i.VirtualSize))
	r.Add("File size", units.Bytes(uint64(i.FileSize)))
	r.Add("Allocated", units.Bytes(uint64(i.Allocated)))
	if i.ClusterSize > 0 {
		r.Add("Cluster size", units.Bytes(uint64(i.ClusterSize)))
	}
	if i.SectorSize > 0 {
		r.Add("Sector size", units.Bytes(uint64(i.SectorSize)))
	}
	add("Compression", i.Compression)
	add("Content ID", i.ContentID)
	for _, ref := range i.References {
		r.Add("Refers to", strings.TrimSpace(fmt.Sprintf("%s %q %s", ref.Kind, ref.Name, ref.Format)))
	}
	for _, s := range i.Snapshots {
		r.Add("Snapshot", fmt.Sprintf("%s %q of %s, %s", s.ID, s.Name, time.Unix(s.Time, 0).UTC().Format(time.DateTime), units.Bytes(uint64(s.Size))))
	}
	for _, m := range i.Members {
		r.Add("Member", m)
	}
	for _, w := range i.Warnings {
		r.Add("Warning", w)
	}
	return r
}
