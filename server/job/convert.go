package job

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// maxRatio is how many bytes of content an image may yield for each byte read before it is taken for a bomb.
const maxRatio = 1000

// maxVirtualSize is the size of the largest disk, in bytes: that of VHDX.
const maxVirtualSize = 64 << 40

// Converts does the work of convert jobs.
type Converts struct {
	Formats       converters.Formats
	DefaultFormat exportv1.DiskFormat
}

func (c *Converts) prepare(spec *exportv1.ConvertSpec) error {
	paths := map[string]*string{"source_path": &spec.SourcePath, "target_path": &spec.TargetPath}
	if spec.GetBackingPath() != "" {
		paths["backing_path"] = &spec.BackingPath
	}
	for field, path := range paths {
		if !filepath.IsAbs(*path) {
			return fault.New(fault.InvalidArgument, "spec.convert.%s: %q is not an absolute path", field, *path)
		}
		*path = filepath.Clean(*path)
	}
	if spec.GetFormat() == exportv1.DiskFormat_DISK_FORMAT_UNSPECIFIED {
		spec.Format = c.DefaultFormat
	}
	if spec.GetSourceFormat() == "vpc" {
		spec.SourceFormat = "vhd"
	}
	if backing := spec.GetBackingPath(); backing != "" && filepath.Dir(backing) != filepath.Dir(spec.GetTargetPath()) {
		return fault.New(fault.InvalidArgument, "spec.convert.backing_path: %s is not in the target's folder, where it is looked for later", backing)
	}
	if spec.GetClusterSize() > math.MaxInt64 || spec.GetMaxOutputBytes() > math.MaxInt64 {
		return fault.New(fault.InvalidArgument, "spec.convert: cluster_size and max_output_bytes must be below 2^63")
	}
	if _, err := os.Lstat(spec.GetTargetPath()); err == nil {
		return fault.New(fault.AlreadyExists, "spec.convert.target_path: %s exists already; remove it or choose another name", spec.GetTargetPath())
	}
	return nil
}

func (c *Converts) run(ctx context.Context, t *Task, spec *exportv1.ConvertSpec) (_ *exportv1.JobResult, err error) {
	t.Log(slog.LevelInfo, "converting %s to %s", spec.GetSourcePath(), enumtext.Of(spec.GetFormat()))
	defer func() {
		// Only a server that ends keeps what was done: the job goes on there when the server is back.
		if err != nil && !errors.Is(context.Cause(ctx), ErrShutdown) && !fault.Is(err, fault.Aborted) { // another job writes there
			err = errors.Join(err, converters.DiscardPartial(spec.GetTargetPath()))
		}
	}()
	o := converters.OpenOptions{
		Format: spec.GetSourceFormat(), SameFolder: spec.GetSameFolderReferences(),
		OpenOptions: image.OpenOptions{Snapshot: spec.GetSnapshot(), Member: spec.GetMember()},
	}
	id, err := converters.FileIdentity(spec.GetSourcePath(), o)
	if err != nil {
		return nil, err
	}
	src, err := c.Formats.Open(ctx, spec.GetSourcePath(), o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	for _, w := range src.Info().Warnings {
		t.Log(slog.LevelWarn, "%s", w)
	}
	target := convertTarget(spec)
	if spec.GetBackingPath() != "" {
		backingID, err := converters.FileIdentity(spec.GetBackingPath(), converters.OpenOptions{})
		if err != nil {
			return nil, err
		}
		backing, err := c.Formats.Open(ctx, spec.GetBackingPath(), converters.OpenOptions{SameFolder: spec.GetSameFolderReferences()})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, backing.Close()) }()
		target.Backing = &converters.Backing{Name: filepath.Base(spec.GetBackingPath()), Format: backing.Info().Format, Reader: backing, Identity: backingID}
	}
	result, err := c.Formats.ConvertFile(ctx, converters.Source{Reader: src}, spec.GetTargetPath(), id, target, converters.Options{
		SHA256: true, MaxRatio: maxRatio, MaxVirtualSize: maxVirtualSize, MaxOutput: int64(spec.GetMaxOutputBytes()),
		Progress: func(p converters.Progress) { t.Progress(convertProgress(p)) },
	}, converters.WriteOptions{Resume: true})
	if err != nil {
		return nil, err
	}
	if result.Resumed > 0 {
		t.Log(slog.LevelInfo, "went on at byte %d, up to which an earlier run had come", result.Resumed)
	}
	return &exportv1.JobResult{
		OutputDirectory: filepath.Dir(spec.GetTargetPath()), TotalBytes: uint64(result.FileSize), ExportMethod: "convert",
		Files: []*exportv1.OutputFile{{
			Path: spec.GetTargetPath(), Size: uint64(result.FileSize), ContentSha256: hex.EncodeToString(result.SHA256[:]), Format: enumtext.Of(spec.GetFormat()),
		}},
	}, nil
}

// convertTarget returns what the spec says about the target's format.
func convertTarget(spec *exportv1.ConvertSpec) converters.Target {
	target := converters.Target{
		Format: enumtext.Of(spec.GetFormat()), Variant: spec.GetVariant(), Compression: spec.GetCompression(), Level: int(spec.GetLevel()),
		ClusterSize: int64(spec.GetClusterSize()),
	}
	if spec.GetCompress() && target.Compression == "" && spec.GetFormat() == exportv1.DiskFormat_DISK_FORMAT_QCOW2 {
		target.Compression = "zlib"
	}
	return target
}

func convertProgress(p converters.Progress) *exportv1.JobProgress {
	return &exportv1.JobProgress{
		Phase: "converting", BytesTotal: uint64(p.VirtualSize), BytesDone: uint64(p.Virtual), BytesRead: uint64(p.Read), BytesWritten: uint64(p.Written),
	}
}

// Images is the ImageService of the export API.
type Images struct {
	exportv1.UnimplementedImageServiceServer
	Manager *Manager
	Formats converters.Formats
}

var _ exportv1.ImageServiceServer = (*Images)(nil)

// ConvertImage implements ImageService.
func (s *Images) ConvertImage(ctx context.Context, req *exportv1.ConvertImageRequest) (*exportv1.ConvertImageResponse, error) {
	if req.GetSpec() == nil {
		return nil, fault.New(fault.InvalidArgument, "spec: is missing")
	}
	spec := &exportv1.JobSpec{Work: &exportv1.JobSpec_Convert{Convert: req.GetSpec()}}
	j, err := s.Manager.Submit(ctx, "convert "+filepath.Base(req.GetSpec().GetSourcePath()), principal.CallerFrom(ctx).Name, "", spec)
	if err != nil {
		return nil, err
	}
	return &exportv1.ConvertImageResponse{Job: j}, nil
}

// InspectImage implements ImageService.
func (s *Images) InspectImage(_ context.Context, req *exportv1.InspectImageRequest) (*exportv1.InspectImageResponse, error) {
	if !filepath.IsAbs(req.GetPath()) {
		return nil, fault.New(fault.InvalidArgument, "path: %q is not an absolute path", req.GetPath())
	}
	info, err := s.Formats.Inspect(req.GetPath(), converters.OpenOptions{})
	if err != nil {
		return nil, err
	}
	res := &exportv1.InspectImageResponse{
		Format: info.Format, Variant: info.Variant, VirtualSize: uint64(info.VirtualSize), FileSize: uint64(info.FileSize),
		ClusterSize: uint64(info.ClusterSize), Compression: info.Compression, Warnings: info.Warnings,
		Members: info.Members,
	}
	for _, snapshot := range info.Snapshots {
		res.Snapshots = append(res.Snapshots, cmp.Or(snapshot.Name, snapshot.ID))
	}
	for _, r := range info.References {
		res.References = append(res.References, r.Kind+": "+r.Name)
	}
	return res, nil
}
