package ctl

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

func (a *app) imageList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the images that the host keeps by name", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, _ []string) error {
			res, err := hypervisorv1.NewLocalImageServiceClient(cc).ListLocalImages(ctx, &hypervisorv1.ListLocalImagesRequest{})
			if err != nil {
				return err
			}
			return output.Write(c.OutOrStdout(), a.format, res, func() output.Rows {
				r := output.Rows{Header: []string{"NAME", "SIZE", "ON DISK", "USED BY", "ADDED", "SHA-256"}}
				for _, i := range res.GetImages() {
					r.Add(i.GetName(), units.Bytes(i.GetSize()), units.Bytes(i.GetAllocatedBytes()), fmt.Sprintf("%d VMs", len(i.GetUsedBy())),
						i.GetCreatedOn().AsTime().Format("2006-01-02 15:04"), hex.EncodeToString(i.GetSha256())[:min(12, 2*len(i.GetSha256()))])
				}
				return r
			})
		}),
	}
}

func (a *app) imageAdd() *cobra.Command {
	var spec hypervisorv1.LocalImageSpec
	var job string
	var disk uint32
	c := &cobra.Command{
		Use: "add NAME [FILE|URL]", Short: "Keep an image by name: from a file here, a URL, or a job's disk", Args: cobra.RangeArgs(1, 2),
		Example: `  hyperctl image add debian-13 debian-13.qcow2 --filter '/etc/.*' --filter '/home/.*'
  hyperctl image add debian-13 https://example.com/debian-13.qcow2 --sha256 3f1c...
  hyperctl image add web-template --job 6ba7b810-9dad-11d1-80b4-00c04fd430c8`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			spec.Name = args[0]
			images := hypervisorv1.NewLocalImageServiceClient(cc)
			var image *hypervisorv1.LocalImage
			var err error
			switch source := strings.Join(args[1:], ""); {
			case (source == "") == (job == ""):
				return fault.New(fault.InvalidArgument, "give a file, a URL, or --job")
			case job != "":
				image, err = a.fetchImage(ctx, c, images, &hypervisorv1.AddLocalImageRequest{
					Spec: &spec, Source: &hypervisorv1.AddLocalImageRequest_JobId{JobId: job}, JobDisk: disk,
				})
			case isURL(source):
				image, err = a.fetchImage(ctx, c, images, &hypervisorv1.AddLocalImageRequest{Spec: &spec, Source: &hypervisorv1.AddLocalImageRequest_Url{Url: source}})
			default:
				image, err = a.uploadImage(ctx, c, images, &spec, source)
			}
			if err != nil {
				return err
			}
			return a.showImage(c, image)
		}),
	}
	s := c.Flags()
	s.StringSliceVar(&spec.FilterLines, "filter", nil, "regular expression of `paths` that patching leaves alone on a VM; may be repeated")
	s.StringVar(&spec.Description, "description", "", "what people should know of it")
	s.StringVar(&spec.Format, "format", "", "`format` of the image (default: found by looking)")
	s.StringVar(&spec.ExpectedSha256, "sha256", "", "`digest` that the file must have")
	s.BoolVar(&spec.Replace, "replace", false, "replace an image of this name")
	s.StringVar(&job, "job", "", "`id` of a completed export or conversion job on the host")
	s.Uint32Var(&disk, "job-disk", 0, "which of the job's disks, from 0")
	return c
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "file")
}

func (a *app) showImage(c *cobra.Command, image *hypervisorv1.LocalImage) error {
	return output.Write(c.OutOrStdout(), a.format, image, func() output.Rows {
		return output.Rows{Cells: [][]string{{image.GetName(), units.Bytes(image.GetSize()), "sha256:" + hex.EncodeToString(image.GetSha256())}}}
	})
}

// fetchImage has the server get an image and shows how far it is.
func (a *app) fetchImage(
	ctx context.Context, c *cobra.Command, images hypervisorv1.LocalImageServiceClient, req *hypervisorv1.AddLocalImageRequest,
) (*hypervisorv1.LocalImage, error) {
	display, err := a.display(c.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	defer display.Close()
	stream, err := images.AddLocalImage(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		m, err := stream.Recv()
		if err != nil || m.GetImage() != nil {
			return m.GetImage(), err
		}
		display.Update(progress.State{Phase: m.GetProgressMessage(), Done: m.GetBytesDone(), Total: m.GetBytesTotal()})
	}
}

// uploadImage sends a file.
func (a *app) uploadImage(
	ctx context.Context, c *cobra.Command, images hypervisorv1.LocalImageServiceClient, spec *hypervisorv1.LocalImageSpec, name string,
) (*hypervisorv1.LocalImage, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fault.Wrap(err, "image")
	}
	defer file.Close() //nolint:errcheck // only read
	st, err := file.Stat()
	if err != nil {
		return nil, fault.Wrap(err, "image")
	}
	display, err := a.display(c.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	defer display.Close()
	stream, err := images.UploadLocalImage(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&hypervisorv1.UploadLocalImageRequest{Part: &hypervisorv1.UploadLocalImageRequest_Spec{Spec: spec}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var done uint64
	err = sendFile(file, func(piece []byte) error {
		done += uint64(len(piece))
		display.Update(progress.State{Phase: "sending", Done: done, Total: uint64(max(0, st.Size()))})
		return stream.Send(&hypervisorv1.UploadLocalImageRequest{Part: &hypervisorv1.UploadLocalImageRequest_Data{Data: piece}})
	})
	if err != nil {
		return nil, fault.Wrap(err, "image")
	}
	res, err := stream.CloseAndRecv()
	return res.GetImage(), err
}

func (a *app) imageVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify NAME", Short: "Read an image again and compare it with its digest", Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			res, err := hypervisorv1.NewLocalImageServiceClient(cc).VerifyLocalImage(ctx, &hypervisorv1.VerifyLocalImageRequest{Name: args[0]})
			if err != nil {
				return err
			}
			return a.showImage(c, res.GetImage())
		}),
	}
}

func (a *app) imageRemove() *cobra.Command {
	req := new(hypervisorv1.DeleteLocalImageRequest)
	c := &cobra.Command{
		Use: "remove NAME", Short: "Delete an image that the host keeps by name", Aliases: []string{"rm"}, Args: cobra.ExactArgs(1),
		RunE: a.with(func(ctx context.Context, _ *cobra.Command, cc *grpc.ClientConn, args []string) error {
			req.Name = args[0]
			_, err := hypervisorv1.NewLocalImageServiceClient(cc).DeleteLocalImage(ctx, req)
			return err
		}),
	}
	c.Flags().BoolVar(&req.Force, "force", false, "delete it although VMs name it")
	return c
}
