package transfer

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"io"
	"math/bits"
	"os"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Block sizes as powers of two, as GetVmVolume takes them.
const (
	minBlockOrder = 9
	maxBlockOrder = 32
	// digestsAtOnce is how many digests a message carries.
	digestsAtOnce = 4096
)

// fetch brings a file to the content of a volume at the source: only blocks that differ are sent. The file must exist; holes in it cost nothing.
// No file becomes longer than most bytes. progress gets the bytes that came.
func (src *source) fetch(ctx context.Context, index int, f *os.File, most uint64, progress func(bytes uint64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := src.volumes.GetVmVolume(ctx)
	if err != nil {
		return src.fault(err, "read a volume")
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	order := blockOrder(st.Size())
	sent := make(chan error, 1)
	go func() { sent <- src.sendDigests(stream, index, f, st.Size(), order) }()
	err = src.receive(stream, f, order, most, progress)
	if err != nil {
		cancel()
	}
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	return fault.Wrap(err, "volume %d", index)
}

// blockOrder is half the size's length in bits: then digests and blocks that differ by one byte cost about the same.
func blockOrder(size int64) uint32 {
	return uint32(min(max(bits.Len64(uint64(size))/2, minBlockOrder), maxBlockOrder))
}

// sendDigests says what is here. A stream that breaks is the receiver's business.
func (src *source) sendDigests(
	stream grpc.BidiStreamingClient[hypervisorv1.GetVmVolumeRequest, hypervisorv1.GetVmVolumeResponse], index int, f *os.File, size int64, order uint32,
) error {
	m := &hypervisorv1.GetVmVolumeRequest{
		Vm: src.ref(), VolumeIndex: uint32(index), AccessToken: src.token, GetExtraFiles: true, BlockOrder: order,
	}
	d := newDigester(1 << order)
	blocks := size >> order
	for i := range blocks {
		digest, err := d.of(io.NewSectionReader(f, i<<order, 1<<order))
		if err != nil {
			return fault.Wrap(err, "read what is here")
		}
		m.BlockDigests = append(m.BlockDigests, digest)
		if len(m.GetBlockDigests()) < digestsAtOnce {
			continue
		}
		if stream.Send(m) != nil {
			return nil //nolint:nilerr // the receiver learns why the stream broke
		}
		m = new(hypervisorv1.GetVmVolumeRequest)
	}
	m.DigestsComplete = true
	if stream.Send(m) == nil {
		_ = stream.CloseSend() // its failure is the receiver's too
	}
	return nil
}

// digester computes digests of blocks; blocks of zeros are not computed.
type digester struct {
	block, zeros []byte
	zeroDigest   []byte
}

func newDigester(size int) *digester {
	d := &digester{block: make([]byte, size), zeros: make([]byte, size)}
	sum := sha512.Sum512(d.zeros)
	d.zeroDigest = sum[:]
	return d
}

func (d *digester) of(r io.Reader) ([]byte, error) {
	if _, err := io.ReadFull(r, d.block); err != nil {
		return nil, err
	}
	if bytes.Equal(d.block, d.zeros) {
		return d.zeroDigest, nil
	}
	sum := sha512.Sum512(d.block)
	return sum[:], nil
}

// receive writes what comes. Pieces of one block follow each other.
func (src *source) receive(
	stream grpc.BidiStreamingClient[hypervisorv1.GetVmVolumeRequest, hypervisorv1.GetVmVolumeResponse], f *os.File, order uint32, most uint64, progress func(uint64),
) error {
	last, at := ^uint64(0), int64(0)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fault.New(fault.DataLoss, "source_hypervisor %s: a volume ended before its end", src.address)
		}
		if err != nil {
			return src.fault(err, "read a volume")
		}
		if len(m.GetExtraFiles()) > 0 {
			return fault.New(fault.FailedPrecondition, "source_hypervisor %s: the VM boots with a kernel that lies beside its root volume, which no VM here can; "+
				"have its image install a boot loader", src.address)
		}
		if m.GetBlockIndex() != last {
			last, at = m.GetBlockIndex(), int64(m.GetBlockIndex()<<order)
		}
		if len(m.GetData()) > 0 {
			if m.GetBlockIndex() > most>>order || uint64(at)+uint64(len(m.GetData())) > most {
				return fault.New(fault.DataLoss, "source_hypervisor %s: sent block %d of %d bytes each, which is beyond the end of a volume of %d bytes",
					src.address, m.GetBlockIndex(), uint64(1)<<order, most)
			}
			if _, err := f.WriteAt(m.GetData(), at); err != nil {
				return fault.Wrap(err, "write")
			}
			at += int64(len(m.GetData()))
			progress(uint64(len(m.GetData())))
		}
		if m.GetFinal() {
			return nil
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) }
