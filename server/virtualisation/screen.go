package virtualisation

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// GetDomainScreenshot implements VirtualisationService.
func (s *Service) GetDomainScreenshot(
	ctx context.Context, req *hypervisorv1.GetDomainScreenshotRequest,
) (*hypervisorv1.GetDomainScreenshotResponse, error) {
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	picture, err := s.Driver.Screenshot(ctx, dom.UUID)
	if err != nil {
		return nil, ofVM(record, err)
	}
	picture, size, err := toPNG(picture)
	if err != nil {
		return nil, fault.Wrap(err, "domain %q: screenshot", dom.Name)
	}
	return &hypervisorv1.GetDomainScreenshotResponse{Png: picture, Width: uint32(size.X), Height: uint32(size.Y)}, nil
}

// toPNG returns a PNG or PPM picture as PNG, with its size in pixels.
func toPNG(picture []byte) ([]byte, image.Point, error) {
	if bytes.HasPrefix(picture, []byte("\x89PNG\r\n\x1a\n")) {
		c, err := png.DecodeConfig(bytes.NewReader(picture))
		return picture, image.Pt(c.Width, c.Height), fault.As(fault.Internal, err, "PNG")
	}
	img, err := readPPM(picture)
	if err != nil {
		return nil, image.Point{}, fault.As(fault.Internal, err, "PPM")
	}
	var out bytes.Buffer
	err = png.Encode(&out, img)
	return out.Bytes(), img.Bounds().Size(), fault.As(fault.Internal, err, "PNG")
}

// maxSide bounds the width and the height of a picture in pixels.
const maxSide = 1 << 14

var errPPM = errors.New("is no picture that a virtualiser makes")

// readPPM reads a picture as QEMU writes it (ppm(5)): magic P6, width, height and 255, parted by blanks or comments, one blank, then three bytes a pixel.
func readPPM(raw []byte) (image.Image, error) {
	r := bufio.NewReader(bytes.NewReader(raw))
	magic := make([]byte, 2)
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "P6" {
		return nil, errPPM
	}
	var head [3]int
	for i := range head {
		n, err := readNumber(r)
		if err != nil {
			return nil, err
		}
		head[i] = n
	}
	width, height, depth := head[0], head[1], head[2]
	if width == 0 || height == 0 || depth != 255 {
		return nil, errPPM
	}
	if len(raw) < width*height*3 { // before so much is asked for
		return nil, fmt.Errorf("%w: %d x %d pixels are not there", errPPM, width, height)
	}
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	row := make([]byte, 3*width)
	for y := range height {
		if _, err := io.ReadFull(r, row); err != nil {
			return nil, fmt.Errorf("%w: line %d is not there", errPPM, y)
		}
		for x := range width {
			pixel := img.Pix[y*img.Stride+4*x:]
			copy(pixel, row[3*x:3*x+3])
			pixel[3] = 255
		}
	}
	return img, nil
}

// readNumber reads a number of a PPM's head with what is around it: blanks and comments in front, one blank behind.
func readNumber(r *bufio.Reader) (n int, err error) {
	digits := false
	for {
		b, err := r.ReadByte()
		switch {
		case err != nil:
			return 0, errPPM
		case b >= '0' && b <= '9':
			digits = true
			if n = n*10 + int(b-'0'); n > maxSide {
				return 0, errPPM
			}
		case b == ' ' || b == '\n' || b == '\r' || b == '\t':
			if digits {
				return n, nil
			}
		case b == '#' && !digits:
			if _, err := r.ReadBytes('\n'); err != nil {
				return 0, errPPM
			}
		default:
			return 0, errPPM
		}
	}
}

// GetDomainConsole implements VirtualisationService.
func (s *Service) GetDomainConsole(ctx context.Context, req *hypervisorv1.GetDomainConsoleRequest) (*hypervisorv1.GetDomainConsoleResponse, error) {
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	c, err := s.Driver.Console(ctx, dom.UUID)
	if err != nil {
		return nil, ofVM(record, err)
	}
	return &hypervisorv1.GetDomainConsoleResponse{Console: &hypervisorv1.DomainConsole{
		Vnc: c.VNC, VncSocket: c.VNCSocket, VncAddress: c.VNCAddress, VncPort: uint32(c.VNCPort), Spice: c.SPICE, SpiceAddress: c.SPICEAddress,
		SpicePort: uint32(c.SPICEPort), Serial: c.Serial, SerialDevice: c.SerialDevice, SerialSocket: c.SerialSocket,
	}}, nil
}
