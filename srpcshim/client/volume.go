package client

import (
	"context"
	"io"
	"net"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

const (
	minBlockOrder, maxBlockOrder = 9, 32 // powers of two
	digestSize                   = 64    // of SHA-512
	// maxBlocks bounds the digests, which are counted before the first one is sent: those of a volume of 64 TiB, if the block size is half its length in bits.
	maxBlocks = 1 << 22
	// maxVolume bounds what a peer says that it sends.
	maxVolume = 1 << 62
	// digestBytes is how much of the digests is written at once.
	digestBytes = 64 * digestSize
)

// getVmVolumeRequest is the request of GetVmVolume on the wire.
type getVmVolumeRequest struct {
	AccessToken      []byte
	GetExtraFiles    bool
	IgnoreExtraFiles bool
	IpAddress        net.IP
	VolumeIndex      uint
}

// getVmVolumeResponse is the first answer.
type getVmVolumeResponse struct {
	Error      string
	ExtraFiles map[string][]byte
}

// getBlocksRequest says what blocks the client has: NumBlocks blocks of 2 to the power of BlockOrder bytes. Their digests follow it, raw.
type getBlocksRequest struct {
	BlockOrder uint8
	NumBlocks  uint64
}

// block is the block at Index, whose Size bytes follow it. Without a Size it is the last one.
type block struct {
	Error       string
	Index, Size uint64
}

// volumeStream is one GetVmVolume: request, answer, what blocks the client has, and the blocks that differ. Messages of both sides have no status lines.
type volumeStream struct {
	ctx   context.Context //nolint:containedctx // of one call
	conn  *Conn
	call  *call
	order uint32
	// Of the sender, until asked is closed.
	digests []byte
	extra   map[string][]byte
	asked   chan struct{}
	failure error
	sent    chan error // whether all digests were written; nothing if they were not begun
	// Of the receiver.
	blocks  uint64
	next    uint64 // the lowest index that may come
	current block
	left    uint64 // of the current block
	tail    bool   // the current block is everything behind the client's blocks
}

func newVolumeStream(ctx context.Context, c *Conn) *volumeStream {
	return &volumeStream{ctx: ctx, conn: c, asked: make(chan struct{}), sent: make(chan error, 1)}
}

// finish lets the receiver go on, with an error or without. Only the sender calls it, and only once.
func (v *volumeStream) finish(err error) {
	v.failure = err
	close(v.asked)
}

// send takes the request and the digests. What is wrong is the receiver's business, as with gRPC.
func (v *volumeStream) send(m *hypervisorv1.GetVmVolumeRequest) error {
	select {
	case <-v.asked:
		return io.EOF
	default:
	}
	err := v.gather(m)
	if err == nil && m.GetDigestsComplete() {
		err = v.ask()
	}
	if err == nil {
		return nil
	}
	if v.call != nil {
		v.call.end(err)
		err = v.call.why(err)
	}
	v.finish(err)
	return io.EOF
}

// closeSend ends the sending: who sends no more has no more digests.
func (v *volumeStream) closeSend() {
	_ = v.send(&hypervisorv1.GetVmVolumeRequest{DigestsComplete: true}) // the receiver learns what is wrong
}

func (v *volumeStream) gather(m *hypervisorv1.GetVmVolumeRequest) error {
	if v.call == nil {
		if err := v.open(m); err != nil {
			return err
		}
	}
	for _, d := range m.GetBlockDigests() {
		if len(d) != digestSize {
			return fault.New(fault.InvalidArgument, "block_digests: one has %d bytes, not %d", len(d), digestSize)
		}
		v.digests = append(v.digests, d...)
	}
	if len(v.digests) > maxBlocks*digestSize {
		return fault.New(fault.ResourceExhausted, "block_digests: there are more than %d; use larger blocks", maxBlocks)
	}
	return nil
}

// open makes the request.
func (v *volumeStream) open(m *hypervisorv1.GetVmVolumeRequest) error {
	if v.order = m.GetBlockOrder(); v.order == 0 && len(m.GetBlockDigests()) == 0 {
		v.order = minBlockOrder // of no blocks
	}
	if v.order < minBlockOrder || v.order > maxBlockOrder {
		return fault.New(fault.InvalidArgument, "block_order: %d is not between %d and %d", v.order, minBlockOrder, maxBlockOrder)
	}
	ip, err := wire.IPToWire(m.GetVm())
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "vm")
	}
	call, err := v.conn.begin(v.ctx, "Hypervisor.GetVmVolume", false)
	if err != nil {
		return err
	}
	v.call = call
	request := &getVmVolumeRequest{
		AccessToken: m.GetAccessToken(), GetExtraFiles: m.GetGetExtraFiles(), IgnoreExtraFiles: m.GetIgnoreExtraFiles(), IpAddress: ip,
		VolumeIndex: uint(m.GetVolumeIndex()),
	}
	if err := v.call.send(request); err != nil {
		return err
	}
	var answer getVmVolumeResponse
	if err := v.call.receive(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return saying(answer.Error)
	}
	v.extra = answer.ExtraFiles
	return nil
}

// ask says what blocks there are. A stock server takes each digest with a single read from its buffer, and ends the call if that has only a part of it: so the
// digests begin in a record of their own, and no record ends within one.
func (v *volumeStream) ask() error {
	v.blocks = uint64(len(v.digests) / digestSize)
	if err := v.call.send(&getBlocksRequest{BlockOrder: uint8(v.order), NumBlocks: v.blocks}); err != nil {
		return err
	}
	v.finish(nil) // from now on the peer sends blocks, and must be heard
	err := v.writeDigests()
	if err != nil {
		v.conn.drop(v.call.link) // the receiver finds it broken
	}
	v.sent <- err
	return nil
}

func (v *volumeStream) writeDigests() error {
	for d := v.digests; len(d) > 0; {
		n := min(len(d), digestBytes)
		if _, err := v.call.Write(d[:n]); err != nil {
			return err
		}
		d = d[n:]
	}
	v.digests = nil
	return nil
}
