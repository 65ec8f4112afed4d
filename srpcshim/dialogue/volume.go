package dialogue

import (
	"context"
	"errors"
	"math"
	"net"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

const (
	minBlockOrder = 9
	maxBlockOrder = 32
	digestSize    = 64 // of SHA-512
	digestsAtOnce = 1 << 10
)

// GetVmVolumeRequest is the request of GetVmVolume.
type GetVmVolumeRequest struct {
	AccessToken      []byte
	GetExtraFiles    bool
	IgnoreExtraFiles bool
	IpAddress        net.IP
	VolumeIndex      uint
}

// GetVmVolumeResponse is the first answer of GetVmVolume.
type GetVmVolumeResponse struct {
	Error      string
	ExtraFiles map[string][]byte
}

// GetBlocksRequest says what blocks the client has: NumBlocks blocks of 2 to the power of BlockOrder bytes. Their digests follow it.
type GetBlocksRequest struct {
	BlockOrder uint8
	NumBlocks  uint64
}

// Block is the block at Index, whose Size bytes follow it. Without a Size it is the last one.
type Block struct {
	Error       string
	Index, Size uint64
}

var errProbed = fault.New(fault.Canceled, "the request is good; the client is asked which blocks it has")

// volume is one GetVmVolume. The client says what blocks it has only after its request was found good, but the handler wants to know their
// size with the request. So the handler is called twice: the first time up to where it waits for the blocks.
type volume struct {
	talk    wire.Talk
	length  func(ctx context.Context, vm string, index uint32) (uint64, error)
	request *hypervisorv1.GetVmVolumeRequest
	begun   bool // of this call of the handler, the request was handed over
	good    bool // the request was found good
	blocks  GetBlocksRequest
	left    uint64 // digests to come

	total   uint64 // bytes of the volume; known once the first block comes
	known   bool
	block   uint64 // bytes of the block under way that are still to come
	tail    bool   // the block under way is everything behind the client's blocks
	stopped bool   // the last block was said
}

func openVolume(h Hooks) func(wire.Talk) wire.Dialogue {
	return func(t wire.Talk) wire.Dialogue {
		v := &volume{talk: t, length: h.VolumeLength}
		return dialogue[*hypervisorv1.GetVmVolumeRequest, *hypervisorv1.GetVmVolumeResponse]{v.recv, v.send, v.end}
	}
}

func (v *volume) recv(m *hypervisorv1.GetVmVolumeRequest) error {
	switch {
	case v.request == nil:
		return v.ask(m)
	case !v.good:
		v.good = true
		return errProbed
	case !v.begun:
		v.begun = true
		v.fill(m, uint32(v.blocks.BlockOrder))
		m.DigestsComplete = v.left == 0
		return nil
	default:
		return v.digests(m)
	}
}

// ask takes the request.
func (v *volume) ask(m *hypervisorv1.GetVmVolumeRequest) error {
	var w GetVmVolumeRequest
	if err := v.talk.Read(&w, false); err != nil {
		return err
	}
	if w.VolumeIndex > math.MaxUint32 {
		return fault.New(fault.InvalidArgument, "VolumeIndex: there is no volume %d", w.VolumeIndex)
	}
	vm, err := wire.IPToProto(w.IpAddress)
	if err != nil {
		return fault.Wrap(err, "request: IpAddress")
	}
	v.request = &hypervisorv1.GetVmVolumeRequest{
		Vm: vm, VolumeIndex: uint32(w.VolumeIndex), AccessToken: w.AccessToken, GetExtraFiles: w.GetExtraFiles, IgnoreExtraFiles: w.IgnoreExtraFiles,
	}
	v.fill(m, minBlockOrder)
	return nil
}

func (v *volume) fill(m *hypervisorv1.GetVmVolumeRequest, order uint32) {
	m.Vm, m.VolumeIndex, m.AccessToken = v.request.GetVm(), v.request.GetVolumeIndex(), v.request.GetAccessToken()
	m.GetExtraFiles, m.IgnoreExtraFiles, m.BlockOrder = v.request.GetGetExtraFiles(), v.request.GetIgnoreExtraFiles(), order
}

// digests takes some of the client's digests.
func (v *volume) digests(m *hypervisorv1.GetVmVolumeRequest) error {
	n := min(v.left, digestsAtOnce)
	buf := make([]byte, n*digestSize)
	u := upload{talk: v.talk}
	if err := u.fill(buf); err != nil {
		return err
	}
	for ; len(buf) > 0; buf = buf[digestSize:] {
		m.BlockDigests = append(m.BlockDigests, buf[:digestSize])
	}
	if v.left -= n; v.left == 0 {
		m.DigestsComplete = true
		v.talk.Attend()
	}
	return nil
}

func (v *volume) send(m *hypervisorv1.GetVmVolumeResponse) error {
	if len(m.GetExtraFiles()) > 0 {
		return fault.New(fault.Internal, "extra files are told too late for SRPC")
	}
	if err := v.measure(); err != nil {
		return err
	}
	var parts []any
	data := m.GetData()
	if len(data) > 0 && v.block == 0 && !v.tail {
		parts = append(parts, v.start(m.GetBlockIndex()))
	}
	if uint64(len(data)) > v.block {
		return fault.New(fault.Internal, "the volume has grown while it was read")
	}
	if v.block -= uint64(len(data)); len(data) > 0 {
		parts = append(parts, data)
	}
	if m.GetFinal() {
		if v.block > 0 {
			return fault.New(fault.Internal, "the volume has shrunk while it was read")
		}
		v.stopped = true
		parts = append(parts, &Block{Index: v.blocks.NumBlocks})
	}
	if len(parts) == 0 {
		return nil
	}
	return v.talk.Write(parts...)
}

// measure asks for the volume's length, now that the handler holds the volume.
func (v *volume) measure() (err error) {
	if !v.known {
		v.known = true
		v.total, err = v.length(v.talk.Context(), v.request.GetVm(), v.request.GetVolumeIndex())
	}
	return err
}

// start begins a block. What lies behind the client's blocks is one, however long.
func (v *volume) start(index uint64) *Block {
	begin := index << v.blocks.BlockOrder
	v.block = v.total - min(begin, v.total)
	if v.tail = index >= v.blocks.NumBlocks; !v.tail {
		v.block = min(v.block, 1<<v.blocks.BlockOrder)
	}
	return &Block{Index: index, Size: v.block}
}

func (v *volume) end(failure error) error {
	switch {
	case !v.good:
		return v.talk.Write(&GetVmVolumeResponse{Error: v.talk.Text(orUnexpected(failure))})
	case !v.begun:
		return v.agree()
	case failure == nil && v.stopped:
		return nil
	case v.block > 0:
		return wire.ErrClose // in the middle of a block there is no place for an error
	default:
		u := upload{talk: v.talk}
		u.expect(v.left*digestSize, nil)
		return join(u.drain(), v.talk.Write(&Block{Error: v.talk.Text(orUnexpected(failure))}))
	}
}

// agree says that the request is good and takes what blocks the client has.
func (v *volume) agree() error {
	if err := v.talk.Write(new(GetVmVolumeResponse)); err != nil {
		return err
	}
	if err := v.talk.Read(&v.blocks, false); err != nil {
		return err
	}
	order := v.blocks.BlockOrder
	if order < minBlockOrder || order > maxBlockOrder || v.blocks.NumBlocks > math.MaxInt64>>order {
		text := "bad block order or number of blocks"
		return join(wire.ErrClose, v.talk.Write(&Block{Error: text}))
	}
	if v.left = v.blocks.NumBlocks; v.left == 0 {
		v.talk.Attend()
	}
	return wire.ErrAgain
}

func orUnexpected(err error) error {
	if err == nil {
		return errors.New("the call ended too early")
	}
	return err
}
