package vm

import (
	"errors"
	"io"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// progressEvery is how often progress is told at most.
const progressEvery = 200 * time.Millisecond

// maxUserData is how many bytes of user data a VM may have; they are held in memory until they are complete.
const maxUserData = 16 << 20

// uploadPart is a part of what follows the spec in a CreateVm stream. The parts come in this order.
type uploadPart uint8

const (
	imageData uploadPart = iota
	userData
	secondaryVolumeData
)

func (p uploadPart) String() string {
	return [...]string{"image_data", "user_data", "secondary_volume_data"}[p]
}

// upload is what follows the spec in a CreateVm stream.
type upload struct {
	recv func() (*hypervisorv1.CreateVmRequest, error)
	part uploadPart // of rest
	rest []byte     // came and was not read
}

// reader reads one part. It ends where another part or the stream's end begins; whether it was long enough is the caller's business.
func (u *upload) reader(part uploadPart) io.Reader { return partReader{u, part} }

type partReader struct {
	upload *upload
	part   uploadPart
}

// Read implements io.Reader.
func (r partReader) Read(p []byte) (int, error) {
	for len(r.upload.rest) == 0 {
		if err := r.upload.next(); err != nil {
			return 0, err
		}
	}
	if r.upload.part != r.part {
		return 0, fault.New(fault.InvalidArgument, "%s: came where %s was expected; image, user data and secondary volumes follow the spec in this order, each as long as announced",
			r.upload.part, r.part)
	}
	n := copy(p, r.upload.rest)
	r.upload.rest = r.upload.rest[n:]
	return n, nil
}

// next receives a message.
func (u *upload) next() error {
	m, err := u.recv()
	if err != nil {
		return err
	}
	switch part := m.GetPart().(type) {
	case *hypervisorv1.CreateVmRequest_ImageData:
		u.part, u.rest = imageData, part.ImageData
	case *hypervisorv1.CreateVmRequest_UserData:
		u.part, u.rest = userData, part.UserData
	case *hypervisorv1.CreateVmRequest_SecondaryVolumeData:
		u.part, u.rest = secondaryVolumeData, part.SecondaryVolumeData
	default:
		return fault.New(fault.InvalidArgument, "spec: belongs into the first message only")
	}
	return nil
}

// end returns an error if more has come than was announced. It does not wait for more: clients may keep the stream open until they have their answer.
func (u *upload) end() error {
	if len(u.rest) > 0 {
		return fault.New(fault.InvalidArgument, "%s: is longer than announced", u.part)
	}
	return nil
}

// readUserData reads the user data whole.
func (u *upload) readUserData(size uint64) ([]byte, error) {
	content := make([]byte, size)
	n, err := io.ReadFull(u.reader(userData), content)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fault.New(fault.DataLoss, "user_data: ended after %d of %d bytes", n, size)
	}
	return content, err
}

// throttled lets a progress message through only so often; texts that differ from the last one always pass.
func throttled(now func() time.Time, send func(*hypervisorv1.CreateVmResponse) error) func(*hypervisorv1.CreateVmResponse) error {
	var last time.Time
	var text string
	return func(m *hypervisorv1.CreateVmResponse) error {
		if m.GetProgressMessage() == text && now().Sub(last) < progressEvery {
			return nil
		}
		last, text = now(), m.GetProgressMessage()
		return send(m)
	}
}
