package legacy

import (
	"net/http"
	"time"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// conversion is the body of /convert/format, which HyperSDK's documents show and its code never had. What stands below target_format is
// Hyperplane's.
type conversion struct {
	SourcePath   string `json:"source_path"`
	OutputPath   string `json:"output_path"`
	TargetFormat string `json:"target_format"`

	SourceFormat         string `json:"source_format,omitempty"`
	Variant              string `json:"variant,omitempty"`
	Compression          string `json:"compression,omitempty"`
	Compress             bool   `json:"compress,omitempty"`
	Level                int32  `json:"level,omitempty"`
	Snapshot             string `json:"snapshot,omitempty"`
	Member               string `json:"member,omitempty"`
	SameFolderReferences bool   `json:"same_folder_references,omitempty"`
}

// converted is the answer: the conversion is a job.
type converted struct {
	JobID     string    `json:"job_id"`
	Status    string    `json:"status"`
	Timestamp time.Time `json:"timestamp"`
}

// convert submits a conversion.
func (a *api) convert(r *http.Request) (any, error) {
	var body conversion
	if err := decode(r, &body); err != nil {
		return nil, err
	}
	for field, value := range map[string]string{"source_path": body.SourcePath, "output_path": body.OutputPath, "target_format": body.TargetFormat} {
		if value == "" {
			return nil, fault.New(fault.InvalidArgument, "%s: is missing", field)
		}
	}
	format, err := diskFormat("target_format", body.TargetFormat)
	if err != nil {
		return nil, err
	}
	res, err := a.images.ConvertImage(r.Context(), &exportv1.ConvertImageRequest{Spec: &exportv1.ConvertSpec{
		SourcePath: body.SourcePath, SourceFormat: body.SourceFormat, TargetPath: body.OutputPath, Format: format, Compress: body.Compress,
		Variant: body.Variant, Compression: body.Compression, Level: body.Level, Snapshot: body.Snapshot, Member: body.Member,
		SameFolderReferences: body.SameFolderReferences,
	}})
	if err != nil {
		return nil, err
	}
	return converted{JobID: res.GetJob().GetId(), Status: "submitted", Timestamp: time.Now().UTC()}, nil
}
