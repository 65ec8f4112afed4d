package client

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxMessage bounds one encoded message of the peer.
const maxMessage = 64 << 20

// bounded reads no more than what is left. The decoder takes exactly the bytes of a message from it, because it reads bytes.
type bounded struct {
	in   *bufio.Reader
	left int64
}

var errTooLarge = fault.New(fault.ResourceExhausted, "message is larger than %d bytes", maxMessage)

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.in.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// ReadByte implements io.ByteReader.
func (b *bounded) ReadByte() (byte, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	b.left--
	return b.in.ReadByte()
}

// readLine reads a line without its end.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fault.New(fault.DataLoss, "a line of the peer is longer than %d bytes", bufferSize)
	}
	if err != nil {
		return "", unexpected(err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
}

// unexpected says that an end is none that a call may have.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
