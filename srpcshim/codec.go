package srpcshim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/gobcache"
)

// codec is an encoding of messages. It may be used by many goroutines.
type codec interface {
	// read takes exactly the bytes of one message, at most limit. After an error it is not known where the next message begins.
	read(in *bufio.Reader, limit int64) ([]byte, error)
	// skipEnd takes what may follow a message and means nothing, as far as it is there already, and says whether some may still come.
	skipEnd(in *bufio.Reader) (owed bool)
	decode(message []byte, into any) error
	encode(out *bytes.Buffer, message any) error
	// decoder returns the decoder of a call with several messages, which decodes what is in the buffer: one message at a time.
	decoder(from *bytes.Buffer) func(into any) error
	// encoder returns the encoder of a call with several messages.
	encoder() encoder
	// value encodes a message that many calls say, for their encoders' share.
	value(message any) ([]byte, error)
}

// encoder encodes the messages of one call.
type encoder interface {
	// encode appends a message.
	encode(out *bytes.Buffer, message any) error
	// share appends a message whose value was encoded before; like is of its type.
	share(out *bytes.Buffer, like any, value []byte) error
}

// newCodecs returns the codecs by what endpoints name.
func newCodecs() map[encoding]codec {
	return map[encoding]codec{gobEncoding: gobCodec{new(gobcache.Cache)}, jsonEncoding: jsonCodec{new(sync.Map)}}
}

// encoding names a codec.
type encoding string

const (
	gobEncoding  encoding = "gob"
	jsonEncoding encoding = "json"
)

// collector gathers the bytes of one message.
type collector struct {
	in    *bufio.Reader
	bytes bytes.Buffer
	limit int64
}

func (c *collector) byte() (byte, error) {
	if int64(c.bytes.Len()) >= c.limit {
		return 0, c.tooLarge()
	}
	b, err := c.in.ReadByte()
	if err != nil {
		return 0, unexpected(err)
	}
	return b, c.bytes.WriteByte(b)
}

// take gathers n bytes. Memory grows with what really comes.
func (c *collector) take(n uint64) error {
	if n > uint64(c.limit) || int64(c.bytes.Len())+int64(n) > c.limit {
		return c.tooLarge()
	}
	_, err := io.CopyN(&c.bytes, c.in, int64(n))
	return unexpected(err)
}

func (c *collector) tooLarge() error {
	return fault.New(fault.ResourceExhausted, "request is larger than %d bytes", c.limit)
}

// unexpected says that an end within a message is no clean one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// malformed is the error of bytes that are no message.
func malformed(format string, args ...any) error {
	return fault.New(fault.InvalidArgument, "malformed request: %s", fmt.Sprintf(format, args...))
}
