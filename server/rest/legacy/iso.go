package legacy

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

type isoView struct {
	Filename string    `json:"filename"`
	Path     string    `json:"path"`
	Size     uint64    `json:"size"`
	Modified time.Time `json:"modified"`
	Label    string    `json:"label"`
	UsedBy   []string  `json:"used_by"`
}

func isoViewOf(i *hypervisorv1.IsoImage) isoView {
	return isoView{i.GetFilename(), i.GetPath(), i.GetSize(), i.GetModifiedOn().AsTime(), i.GetLabel(), append([]string{}, i.GetUsedBy()...)}
}

func (a *appliances) listISOs(ctx context.Context, _ query) (any, error) {
	res, err := a.app.ListIsoImages(ctx, &hypervisorv1.ListIsoImagesRequest{})
	if err != nil {
		return nil, err
	}
	return listed("isos", res.GetImages(), isoViewOf), nil
}

// isoPiece is how much of an upload one message carries.
const isoPiece = 256 << 10

// uploadISO takes a multipart/form-data body whose part "iso" is the image, of any length. It is passed on as it comes.
func (a *appliances) uploadISO(r *http.Request) (any, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "body: send multipart/form-data with the part iso")
	}
	part, err := parts.NextPart()
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "body: part iso is missing")
	}
	if part.FormName() != "iso" {
		return nil, fault.New(fault.InvalidArgument, "body: part %q in the place of part iso", part.FormName())
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel() // a client that goes away in the middle takes the upload with it
	res, err := a.sendISO(ctx, part)
	if err != nil {
		return nil, err
	}
	i := res.GetImage()
	return map[string]any{
		"status": "success", "message": "ISO uploaded", "filename": i.GetFilename(), "path": i.GetPath(), "size": i.GetSize(), "iso": isoViewOf(i),
	}, nil
}

func (a *appliances) sendISO(ctx context.Context, part *multipart.Part) (*hypervisorv1.UploadIsoImageResponse, error) {
	stream, err := a.app.UploadIsoImage(ctx)
	if err != nil {
		return nil, err
	}
	name := isoName(part)
	err = stream.Send(&hypervisorv1.UploadIsoImageRequest{Part: &hypervisorv1.UploadIsoImageRequest_Spec{Spec: &hypervisorv1.IsoImageSpec{Filename: name}}})
	for ended := false; err == nil && !ended; {
		piece := make([]byte, isoPiece) // the receiver keeps it
		n := 0
		for n < isoPiece && !ended {
			more, readErr := part.Read(piece[n:])
			n += more
			if ended = errors.Is(readErr, io.EOF); readErr != nil && !ended {
				return nil, fault.As(fault.InvalidArgument, readErr, "part iso")
			}
		}
		if n > 0 {
			err = stream.Send(&hypervisorv1.UploadIsoImageRequest{Part: &hypervisorv1.UploadIsoImageRequest_Data{Data: piece[:n]}})
		}
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: the handler has ended, and says why
		return nil, err
	}
	return stream.CloseAndRecv()
}

// isoName is the name that the client gave. Browsers of old sent whole paths.
func isoName(part *multipart.Part) string { return path.Base("/" + part.FileName()) }

type isoBody struct {
	Filename string `json:"filename"`
}

func (a *appliances) deleteISO(ctx context.Context, b isoBody) (any, error) {
	_, err := a.app.DeleteIsoImage(ctx, &hypervisorv1.DeleteIsoImageRequest{Filename: b.Filename})
	return answered(err, "ISO %s deleted", b.Filename)
}

// driveBody names an image by its name or, as HyperSDK did, by its path, which must be that of the ISO directory.
type driveBody struct {
	VMName   string `json:"vm_name"`
	Filename string `json:"filename"`
	ISOPath  string `json:"iso_path"`
	Device   string `json:"device"`
}

func (a *appliances) attachISO(ctx context.Context, b driveBody) (any, error) {
	name := b.Filename
	if b.ISOPath != "" {
		var err error
		if name, err = a.isoAt(ctx, b); err != nil {
			return nil, err
		}
	}
	res, err := a.app.InsertIsoImage(ctx, &hypervisorv1.InsertIsoImageRequest{Domain: b.VMName, Filename: name, Device: b.Device})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"status": "success", "message": "ISO " + name + " attached to " + b.VMName, "vm_name": b.VMName, "filename": name, "device": res.GetDevice(),
	}, nil
}

// isoAt finds an image by its path.
func (a *appliances) isoAt(ctx context.Context, b driveBody) (string, error) {
	res, err := a.app.ListIsoImages(ctx, &hypervisorv1.ListIsoImagesRequest{})
	if err != nil {
		return "", err
	}
	for _, i := range res.GetImages() {
		if i.GetPath() == b.ISOPath && (b.Filename == "" || b.Filename == i.GetFilename()) {
			return i.GetFilename(), nil
		}
	}
	return "", fault.New(fault.NotFound, "iso_path: %q is no image of the ISO directory; upload it first, or leave iso_path away", b.ISOPath)
}

func (a *appliances) detachISO(ctx context.Context, b struct {
	VMName string `json:"vm_name"`
	Device string `json:"device"`
},
) (any, error) {
	res, err := a.app.EjectIsoImage(ctx, &hypervisorv1.EjectIsoImageRequest{Domain: b.VMName, Device: b.Device})
	if err != nil {
		return nil, err
	}
	return map[string]any{"status": "success", "message": "ISO detached from " + b.VMName, "vm_name": b.VMName, "device": res.GetDevice()}, nil
}
