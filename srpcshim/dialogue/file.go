package dialogue

import (
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// file is an answer that tells a length, and that many raw bytes.
type file struct {
	talk    wire.Talk
	sorry   func(text string) any
	started bool
	left    uint64
}

// send says a piece. The first one tells the length.
func (f *file) send(length uint64, data []byte, first func(length uint64) any) error {
	var parts []any
	if !f.started {
		f.started, f.left = true, length
		parts = append(parts, first(length))
	}
	if uint64(len(data)) > f.left {
		return fault.New(fault.Internal, "more than the %d bytes that were announced", length)
	}
	if f.left -= uint64(len(data)); len(data) > 0 {
		parts = append(parts, data)
	}
	if len(parts) == 0 {
		return nil
	}
	return f.talk.Write(parts...)
}

// end says an error. After the length there is no place for one, so the connection ends too early, which the client sees.
func (f *file) end(failure error) error {
	switch {
	case f.started && f.left == 0:
		return nil
	case f.started:
		return wire.ErrClose
	case failure == nil:
		return f.talk.Write(f.sorry(""))
	default:
		return f.talk.Write(f.sorry(f.talk.Text(failure)))
	}
}
