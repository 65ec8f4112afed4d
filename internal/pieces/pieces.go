// Package pieces cuts bytes into the messages of a stream, and reads what came in such.
package pieces

import (
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Size is how many bytes go into one message at most.
const Size = 64 << 10

// Send hands exactly length bytes of r to send, in pieces; it may reuse a piece's memory when send has returned. Aborted if r ends early.
func Send(r io.Reader, length uint64, send func(piece []byte) error) error {
	buf := make([]byte, min(Size, length))
	for length > 0 {
		piece := buf[:min(uint64(len(buf)), length)]
		if _, err := io.ReadFull(r, piece); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return fault.New(fault.Aborted, "became shorter while it was read; read it again")
			}
			return err
		}
		if err := send(piece); err != nil {
			return err
		}
		length -= uint64(len(piece))
	}
	return nil
}
