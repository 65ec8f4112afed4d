package legacy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// volumeUpload makes a volume of a file in the host's image directory.
type volumeUpload struct {
	volumeRef
	SourcePath string `json:"source_path"`
	Format     string `json:"format"`
}

// pieceSize is how much of an upload one message carries.
const pieceSize = 256 << 10

// uploadVolume makes a volume: of a file in the host's image directory that a JSON body names, or of the body itself if that is application/octet-stream,
// with the names as query parameters. HyperSDK read any path of the server.
func (h *host) uploadVolume(r *http.Request) (any, error) {
	var b volumeUpload
	var body io.Reader = strings.NewReader("")
	target := &hypervisorv1.UploadStorageVolumeTarget{Create: true}
	if r.Header.Get("Content-Type") == "application/octet-stream" {
		q, err := readQuery(r, "pool", "volume", "format")
		if err != nil {
			return nil, err
		}
		if r.ContentLength <= 0 {
			return nil, fault.New(fault.InvalidArgument, "Content-Length: is missing; it says how large the volume is")
		}
		b.Pool, b.Volume, b.Format, body = q["pool"], q["volume"], q["format"], r.Body
		target.SizeBytes = (uint64(r.ContentLength) + 511) / 512 * 512
	} else {
		if err := decode(r, &b); err != nil {
			return nil, err
		}
		if b.SourcePath == "" {
			return nil, fault.New(fault.InvalidArgument, "source_path: is missing; name a file in the host's image directory")
		}
		target.ImageFile = b.SourcePath
	}
	target.Pool, target.Volume, target.Format = b.Pool, b.Volume, b.Format
	res, err := h.upload(r.Context(), target, body)
	if err != nil {
		return nil, err
	}
	v := res.GetVolume()
	return created{map[string]any{
		"status": "success", "message": "Image uploaded to volume " + b.Volume, "pool": b.Pool, "volume": b.Volume, "path": v.GetPath(), "format": v.GetFormat(),
		"capacity_gb": (v.GetCapacity() + gigabyte - 1) / gigabyte, "source": b.SourcePath,
	}}, nil
}

func (h *host) upload(
	ctx context.Context, target *hypervisorv1.UploadStorageVolumeTarget, body io.Reader,
) (*hypervisorv1.UploadStorageVolumeResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := h.virt.UploadStorageVolume(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&hypervisorv1.UploadStorageVolumeRequest{Part: &hypervisorv1.UploadStorageVolumeRequest_Target{Target: target}})
	for err == nil {
		piece := make([]byte, pieceSize) // the receiver keeps it: the channel to it does not copy
		n, readErr := io.ReadFull(body, piece)
		if n > 0 {
			err = stream.Send(&hypervisorv1.UploadStorageVolumeRequest{Part: &hypervisorv1.UploadStorageVolumeRequest_Data{Data: piece[:n]}})
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return nil, fault.As(fault.Aborted, readErr, "body")
		}
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the receiver has answered already
		return nil, err
	}
	return stream.CloseAndRecv()
}

// downloadVolume answers with the volume's bytes.
func (h *host) downloadVolume(w http.ResponseWriter, r *http.Request) error {
	q, err := readQuery(r, "pool", "volume")
	if err != nil {
		return err
	}
	stream, err := h.virt.DownloadStorageVolume(r.Context(), &hypervisorv1.DownloadStorageVolumeRequest{Pool: q["pool"], Volume: q["volume"]})
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		m, err := stream.Recv()
		if err != nil && !errors.Is(err, io.EOF) {
			if first {
				return err
			}
			panic(http.ErrAbortHandler) // what was sent must not look like the whole
		}
		if first {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		if err != nil {
			return nil //nolint:nilerr // the stream's end
		}
		if _, err := w.Write(m.GetData()); err != nil {
			return nil //nolint:nilerr // the client has gone
		}
	}
}
