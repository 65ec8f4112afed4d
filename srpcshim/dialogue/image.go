package dialogue

import (
	"net"
	"time"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// DebugVmImageRequest is the request of DebugVmImage. ImageDataSize raw bytes follow it.
type DebugVmImageRequest struct {
	DhcpTimeout      time.Duration
	ImageDataSize    uint64
	ImageName        string
	ImageTimeout     time.Duration
	ImageURL         string
	IpAddress        net.IP
	MinimumFreeBytes uint64
	OverlayFiles     map[string][]byte
	RoundupPower     uint64
}

// ReplaceVmImageRequest is the request of ReplaceVmImage. ImageDataSize raw bytes follow it.
type ReplaceVmImageRequest struct {
	DhcpTimeout      time.Duration
	ImageDataSize    uint64
	ImageName        string
	ImageTimeout     time.Duration
	ImageURL         string
	IpAddress        net.IP
	MinimumFreeBytes uint64
	OverlayFiles     map[string][]byte
	PreDelete        bool
	RoundupPower     uint64
	SkipBackup       bool
	SkipBootloader   bool
	VolumeFormat     srpc.VolumeFormat
}

// ImageResponse is an answer of DebugVmImage and ReplaceVmImage.
type ImageResponse struct {
	DhcpTimedOut    bool
	Final           bool
	ProgressMessage string
	Error           string
}

func openDebugImage(t wire.Talk) wire.Dialogue {
	return imageUpload(t, func(w DebugVmImageRequest) (*hypervisorv1.DebugVmImageRequest, error) {
		vm, err := wire.IPToProto(w.IpAddress)
		return &hypervisorv1.DebugVmImageRequest{Vm: vm, Source: w.source()}, err
	}, func(m *hypervisorv1.DebugVmImageRequest, p []byte) { m.ImageData = p }, func(m *hypervisorv1.DebugVmImageResponse) ImageResponse {
		return ImageResponse{DhcpTimedOut: m.GetDhcpTimedOut(), Final: m.GetFinal(), ProgressMessage: m.GetProgressMessage()}
	})
}

func (w *DebugVmImageRequest) source() *hypervisorv1.ImageSource {
	return &hypervisorv1.ImageSource{
		DhcpTimeout: wire.DurationToProto(w.DhcpTimeout), ImageDataSize: w.ImageDataSize, ImageName: w.ImageName,
		ImageTimeout: wire.DurationToProto(w.ImageTimeout), ImageUrl: w.ImageURL, MinimumFreeBytes: w.MinimumFreeBytes,
		OverlayFiles: w.OverlayFiles, RoundupPower: w.RoundupPower,
	}
}

func openReplaceImage(t wire.Talk) wire.Dialogue {
	return imageUpload(t, replaceToProto, func(m *hypervisorv1.ReplaceVmImageRequest, p []byte) { m.ImageData = p },
		func(m *hypervisorv1.ReplaceVmImageResponse) ImageResponse {
			return ImageResponse{DhcpTimedOut: m.GetDhcpTimedOut(), Final: m.GetFinal(), ProgressMessage: m.GetProgressMessage()}
		})
}

func replaceToProto(w ReplaceVmImageRequest) (*hypervisorv1.ReplaceVmImageRequest, error) {
	var e wire.Errors
	source := DebugVmImageRequest{
		w.DhcpTimeout, w.ImageDataSize, w.ImageName, w.ImageTimeout, w.ImageURL, w.IpAddress, w.MinimumFreeBytes, w.OverlayFiles, w.RoundupPower,
	}
	m := &hypervisorv1.ReplaceVmImageRequest{
		Vm: wire.One(&e, "IpAddress", w.IpAddress, wire.IPToProto), Source: source.source(),
		PreDelete: w.PreDelete, SkipBackup: w.SkipBackup, SkipBootloader: w.SkipBootloader,
		VolumeFormat: wire.One(&e, "VolumeFormat", w.VolumeFormat, srpc.VolumeFormatToProto),
	}
	return m, e.Err()
}

// sourced is a request with an image.
type sourced interface {
	proto.Message
	GetSource() *hypervisorv1.ImageSource
}

// imageUpload is a request and an image; progress, and at last Final or an Error.
func imageUpload[W any, Q sourced, R proto.Message](t wire.Talk, convert func(W) (Q, error), put func(Q, []byte), answer func(R) ImageResponse) wire.Dialogue {
	u, p, begun := &upload{talk: t}, new(progress), false
	var waiting Q
	return dialogue[Q, R]{
		func(m Q) error {
			waiting = m
			if begun {
				return u.next()
			}
			begun = true
			var w W
			if err := t.Read(&w, false); err != nil {
				return err
			}
			q, err := convert(w)
			u.expect(q.GetSource().GetImageDataSize(), func(piece []byte) { put(waiting, piece) })
			u.begun()
			proto.Merge(m, q)
			return fault.As(fault.InvalidArgument, err, "request")
		},
		func(m R) error {
			w := answer(m)
			if !w.Final && !p.news(w.ProgressMessage) {
				return nil
			}
			return t.Write(&w)
		},
		func(failure error) error {
			err := u.drain()
			if failure == nil {
				return err
			}
			return join(err, t.Write(&ImageResponse{Error: t.Text(failure)}))
		},
	}
}

// PatchVmImageRequest is the request of PatchVmImage.
type PatchVmImageRequest struct {
	ImageName    string
	ImageTimeout time.Duration
	IpAddress    net.IP
	OverlayFiles map[string][]byte
	SkipBackup   bool
}

// PatchVmImageResponse is an answer of PatchVmImage. The last one is Final also if it tells an Error.
type PatchVmImageResponse struct {
	Final           bool
	ProgressMessage string
	Error           string
}

func openPatchImage(t wire.Talk) wire.Dialogue {
	p := new(progress)
	return dialogue[*hypervisorv1.PatchVmImageRequest, *hypervisorv1.PatchVmImageResponse]{
		asked(t, func(w PatchVmImageRequest) (*hypervisorv1.PatchVmImageRequest, error) {
			vm, err := wire.IPToProto(w.IpAddress)
			return &hypervisorv1.PatchVmImageRequest{
				ImageName: w.ImageName, ImageTimeout: wire.DurationToProto(w.ImageTimeout), Vm: vm, OverlayFiles: w.OverlayFiles, SkipBackup: w.SkipBackup,
			}, err
		}),
		func(m *hypervisorv1.PatchVmImageResponse) error {
			if !m.GetFinal() && !p.news(m.GetProgressMessage()) {
				return nil
			}
			return t.Write(&PatchVmImageResponse{Final: m.GetFinal(), ProgressMessage: m.GetProgressMessage()})
		},
		saidAll(t, func(text string) any { return &PatchVmImageResponse{Final: true, Error: text} }),
	}
}
