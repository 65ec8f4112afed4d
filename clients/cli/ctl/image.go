package ctl

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) imageCommand() *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "Convert disk images, and keep images by name, on the server's host"}
	c.AddCommand(a.imageConvert(), a.imageInspect(), a.imageList(), a.imageAdd(), a.imageVerify(), a.imageRemove())
	return c
}

func (a *app) imageConvert() *cobra.Command {
	var spec exportv1.ConvertSpec
	var format, cluster, maxOutput string
	c := &cobra.Command{
		Use: "convert SOURCE TARGET", Short: "Convert an image in a job and wait for it", Args: cobra.ExactArgs(2),
		Example: `  hyperctl image convert /exports/vm.vmdk /exports/vm.qcow2 --to qcow2 --compression zstd`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) (err error) {
			spec.SourcePath, spec.TargetPath = args[0], args[1]
			if spec.Format, err = parseFormat(format); err != nil {
				return err
			}
			if spec.ClusterSize, err = parseBytes("cluster-size", cluster); err != nil {
				return err
			}
			if spec.MaxOutputBytes, err = parseBytes("max-output", maxOutput); err != nil {
				return err
			}
			if !filepath.IsAbs(args[0]) || !filepath.IsAbs(args[1]) {
				return fault.New(fault.InvalidArgument, "the paths are those of the server's host and must be absolute")
			}
			res, err := exportv1.NewImageServiceClient(cc).ConvertImage(ctx, &exportv1.ConvertImageRequest{Spec: &spec})
			if err != nil {
				return err
			}
			return a.watch(ctx, c, exportv1.NewJobServiceClient(cc), res.GetJob().GetId())
		}),
	}
	s := c.Flags()
	s.StringVar(&format, "to", "", "qcow2, raw, vmdk, vhd, vhdx or vdi (default: the server's)")
	s.StringVar(&spec.SourceFormat, "from", "", "`format` of the source (default: found by looking)")
	s.StringVar(&spec.Variant, "subformat", "", "variant of the target's format")
	s.BoolVar(&spec.Compress, "compress", false, "compress, where the format can")
	s.StringVar(&spec.Compression, "compression", "", "zlib or zstd")
	s.Int32Var(&spec.Level, "level", 0, "compression level, 1 (fastest) to 9")
	s.StringVar(&cluster, "cluster-size", "", "`size` of the target's unit of allocation")
	s.StringVar(&spec.BackingPath, "backing", "", "write only the differences to this `file` in the target's folder")
	s.StringVar(&spec.Snapshot, "snapshot", "", "read the internal snapshot of this id or `name`")
	s.StringVar(&spec.Member, "member", "", "read this `file` of an archive that has several disks")
	s.BoolVar(&spec.SameFolderReferences, "same-folder-references", false, "open other files that the source names, in its own folder")
	s.StringVar(&maxOutput, "max-output", "", "fail if the target would get larger than this `size`")
	return c
}

// parseBytes reads a flag's size; empty is 0.
func parseBytes(flag, text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := units.ParseBytes(text)
	return n, fault.Wrap(err, "--%s", flag)
}

func (a *app) imageInspect() *cobra.Command {
	return &cobra.Command{
		Use: "inspect IMAGE", Short: "Describe an image", Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			res, err := exportv1.NewImageServiceClient(cc).InspectImage(ctx, &exportv1.InspectImageRequest{Path: args[0]})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				var r output.Rows
				r.Add("Format", strings.TrimSpace(res.GetFormat()+" "+res.GetVariant()))
				r.Add("Virtual size", units.Bytes(res.GetVirtualSize()))
				r.Add("File size", units.Bytes(res.GetFileSize()))
				for kind, values := range map[string][]string{"Snapshot": res.GetSnapshots(), "Member": res.GetMembers()} {
					for _, v := range values {
						r.Add(kind, v)
					}
				}
				for _, w := range append(res.GetReferences(), res.GetWarnings()...) {
					r.Add("Note", w)
				}
				return r
			})
		}),
	}
}
