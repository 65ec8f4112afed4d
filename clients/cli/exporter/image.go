package exporter

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

// Image is a disk image to read.
type Image struct {
	// Path is the file; Format its format, empty to find it by looking.
	Path, Format string
	// SameFolder allows it to have other files, in its own folder.
	SameFolder bool
	// Snapshot, Member and SizeRule are as in image.OpenOptions; IgnoreChecksums is its Force.
	Snapshot, Member, SizeRule string
	IgnoreChecksums            bool
}

// The policies for other files that an image names.
const (
	refsDeny       = "deny"
	refsSameFolder = "samedir"
)

// imageFlags are the flags of every command that reads images.
type imageFlags struct {
	refs, sizeRule   string
	snapshot, member string
	ignoreChecksums  bool
}

func (f *imageFlags) bind(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.refs, "refs", refsDeny, "other files that an image names (backing file, parent, extents): deny, or samedir for files of its own folder")
	s.StringVar(&f.sizeRule, "vhd-size", "", "which size of a VHD is believed: current or geometry (default: by the program that made it)")
	s.BoolVar(&f.ignoreChecksums, "ignore-checksums", false, "read a VHD none of whose checksums is right")
	complete(c, "refs", refsDeny, refsSameFolder)
	complete(c, "vhd-size", "current", "geometry")
}

// bindContent adds the flags that choose one of several disks in a file.
func (f *imageFlags) bindContent(s *pflag.FlagSet) {
	s.StringVar(&f.snapshot, "snapshot", "", "read the internal snapshot of this id or `name` (qcow2)")
	s.StringVar(&f.member, "member", "", "read this `file` of an archive (ova) that has several disks")
}

func (f *imageFlags) image(path, format string) (Image, error) {
	img := Image{
		Path: path, Format: formatName(format), Snapshot: f.snapshot, Member: f.member, SizeRule: f.sizeRule, IgnoreChecksums: f.ignoreChecksums,
	}
	switch f.refs {
	case refsDeny:
	case refsSameFolder:
		img.SameFolder = true
	default:
		return img, fault.New(fault.InvalidArgument, "--refs: %q is not %s or %s", f.refs, refsDeny, refsSameFolder)
	}
	switch f.sizeRule {
	case "", "current", "geometry":
	default:
		return img, fault.New(fault.InvalidArgument, "--vhd-size: %q is not current or geometry", f.sizeRule)
	}
	return img, nil
}

// formatName returns Hyperplane's name of a format: users of qemu-img call vhd vpc.
func formatName(s string) string {
	s = strings.ToLower(s)
	if s == "vpc" {
		return "vhd"
	}
	return s
}

// complete offers words for a flag.
func complete(c *cobra.Command, flag string, words ...string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // the flag was just made
}

// parseSize reads a flag's size; empty is 0.
func parseSize(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := units.ParseBytes(text)
	return int64(n), fault.Wrap(err, "--%s", flag)
}

func (a *app) compareCommand() *cobra.Command {
	var f imageFlags
	var formatA, formatB string
	c := &cobra.Command{
		Use: "compare A B", Short: "Compare the content of two disk images", Args: cobra.ExactArgs(2),
		Long: `compare reads two disk images of any format and says whether a machine would see the same disk. Of two disks of different size the
rest of the larger one must be zeros.

Exit code: 0 the same content, 1 different, 2 the images could not be compared.`,
		Example: `  hyperexport compare disk.vmdk disk.qcow2`,
		RunE: func(c *cobra.Command, args []string) error {
			at, err := a.compare(c.Context(), f, args, formatA, formatB)
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
	f.bind(c)
	c.Flags().StringVar(&formatA, "format-a", "", "format of A (default: found by looking)")
	c.Flags().StringVar(&formatB, "format-b", "", "format of B")
	complete(c, "format-a", a.engine.Readable()...)
	complete(c, "format-b", a.engine.Readable()...)
	return c
}

func (a *app) compare(ctx context.Context, f imageFlags, paths []string, formatA, formatB string) (int64, error) {
	imgA, err := f.image(paths[0], formatA)
	if err != nil {
		return 0, err
	}
	imgB, err := f.image(paths[1], formatB)
	if err != nil {
		return 0, err
	}
	return a.engine.Compare(ctx, imgA, imgB)
}
