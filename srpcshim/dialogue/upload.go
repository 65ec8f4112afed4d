package dialogue

import (
	"errors"
	"io"
	"os"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

const (
	// pieceSize is how much of an upload the handler gets at once.
	pieceSize = 256 << 10
	// drainSize is how much is taken at once of what nobody gets.
	drainSize = 32 << 10
)

// upload is raw bytes of known length that follow a message, in parts.
type upload struct {
	talk  wire.Talk
	parts []part
}

// part is what some of the bytes are.
type part struct {
	left uint64
	use  func(piece []byte)
}

// expect announces a part. Parts without bytes are left out.
func (u *upload) expect(size uint64, use func([]byte)) {
	if size > 0 {
		u.parts = append(u.parts, part{size, use})
	}
}

// begun is called when all parts are announced.
func (u *upload) begun() {
	if len(u.parts) == 0 {
		u.talk.Attend()
	}
}

// next hands the next piece to its part; io.EOF after the last.
func (u *upload) next() error {
	if len(u.parts) == 0 {
		return io.EOF
	}
	p := &u.parts[0]
	buf := make([]byte, min(p.left, pieceSize))
	if err := u.fill(buf); err != nil {
		return err
	}
	p.use(buf)
	if p.left -= uint64(len(buf)); p.left == 0 {
		u.parts = u.parts[1:]
		u.begun()
	}
	return nil
}

func (u *upload) fill(buf []byte) error {
	for len(buf) > 0 {
		n, err := u.talk.ReadRaw(buf, false)
		if err != nil {
			u.parts = nil // nothing more can come
			return fault.As(fault.Unavailable, cut(err), "upload")
		}
		buf = buf[n:]
	}
	return nil
}

var errStalled = errors.New("the client takes too long to send it")

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errStalled
	}
	return err
}

// drain takes what the handler did not want, so that it is not taken for the next call. A client that takes too long is not waited for: its connection ends.
func (u *upload) drain() error {
	if len(u.parts) == 0 {
		return nil
	}
	u.talk.Hurry()
	buf := make([]byte, drainSize)
	for ; len(u.parts) > 0; u.parts = u.parts[1:] {
		for left := u.parts[0].left; left > 0; {
			n, err := u.talk.ReadRaw(buf[:min(left, drainSize)], false)
			if err != nil {
				u.parts = nil // nothing more can come
				return fault.As(fault.Unavailable, cut(err), "upload that was not wanted")
			}
			left -= uint64(n)
		}
	}
	return nil
}
