package vmvolume

import (
	"context"
	"errors"
	"io"
	"os"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// The order of a block is its size's exponent.
const (
	minBlockOrder = 9
	maxBlockOrder = 32
)

type readStream = grpc.BidiStreamingServer[hypervisorv1.GetVmVolumeRequest, hypervisorv1.GetVmVolumeResponse]

// GetVmVolume implements VolumeService. What is sent is the volume's file as it is, raw or qcow2. The first request names the volume and the size of the
// blocks; digests come in it and in those after it. An answer is a piece of a block that differs; pieces of one block follow each other from its beginning,
// and the last block is shorter if the file is. Blocks behind the client's are sent all, and at last an empty answer with final. With block_order 0, and
// no digests, the whole file is one block.
//
// Answers are sent while digests still come, so a client must read while it sends. A file longer than the volume is the client's to cut.
//
// The file of a VM that runs is torn: it is read while the guest writes. The design is two passes, as when a VM is copied: one while it runs, which moves
// nearly everything, and after it was stopped a second one, which moves what has changed since.
//
// No VM here has a separate kernel and initrd, so both wishes about them are granted: there are no extra files to send, or to ignore.
func (s *Service) GetVmVolume(stream readStream) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return fault.New(fault.InvalidArgument, "vm: is missing; name the VM in the first message")
	}
	if err != nil {
		return err
	}
	if err := checkRead(first); err != nil {
		return err
	}
	record, release, err := s.Operations.Acquire(stream.Context(), first.GetVm())
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(read(record, stream, first), "vm %s: volume %d", vm.Name(record.GetVmInfo()), first.GetVolumeIndex())
}

func checkRead(m *hypervisorv1.GetVmVolumeRequest) error {
	o := m.GetBlockOrder()
	switch {
	case o == 0 && len(m.GetBlockDigests()) > 0:
		return fault.New(fault.InvalidArgument, "block_order: is missing; block_digests need it")
	case o != 0 && (o < minBlockOrder || o > maxBlockOrder):
		return fault.New(fault.InvalidArgument, "block_order: %d is not between %d and %d", o, minBlockOrder, maxBlockOrder)
	default:
		return nil
	}
}

func read(record *hypervisorv1.LocalVmInfo, stream readStream, first *hypervisorv1.GetVmVolumeRequest) (err error) {
	if err := index(record, first.GetVolumeIndex()); err != nil {
		return err
	}
	f, err := os.Open(record.GetVolumeLocations()[first.GetVolumeIndex()].GetFilename())
	if err != nil {
		return fault.Wrap(err, "open")
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := newBlocks(f, first.GetBlockOrder())
	if err != nil {
		return err
	}
	d := dialogue{blocks: b, stream: stream, index: 0}
	if err := d.compareAll(first); err != nil {
		return err
	}
	for ; d.index < b.count(); d.index++ {
		if err := d.send(); err != nil {
			return err
		}
	}
	return stream.Send(&hypervisorv1.GetVmVolumeResponse{Final: true})
}

// dialogue is the reading of one volume by one client.
type dialogue struct {
	*blocks
	stream readStream
	index  int64 // of the next block
}

// compareAll takes the client's digests, from the first message on, and sends the blocks that differ.
func (d *dialogue) compareAll(m *hypervisorv1.GetVmVolumeRequest) error {
	if d.order == 0 {
		return nil // no blocks, no digests: there is nothing to wait for
	}
	for {
		for _, digest := range m.GetBlockDigests() {
			if err := d.compare(digest); err != nil {
				return err
			}
		}
		if m.GetDigestsComplete() {
			return nil
		}
		var err error
		m, err = d.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil // who sends no more has no more digests
		}
		if err != nil {
			return err
		}
	}
}

// compare sends the next block if the client's differs. Digests of blocks behind the file's end are of no interest.
func (d *dialogue) compare(digest []byte) error {
	if d.index >= d.count() {
		return nil
	}
	same, err := d.equal(d.index, digest)
	if err == nil && !same {
		err = d.send()
	}
	d.index++
	return err
}

func (d *dialogue) send() error {
	return d.pieces(d.stream.Context(), d.index, func(p []byte) error {
		return d.stream.Send(&hypervisorv1.GetVmVolumeResponse{BlockIndex: uint64(d.index), Data: p})
	})
}

// pieces calls use with the content of a block, piece by piece. use must not change the piece, and must be done with it when it returns.
func (b *blocks) pieces(ctx context.Context, i int64, use func([]byte) error) error {
	start, end := b.bounds(i)
	for off := start; off < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := b.piece(off, min(pieceSize, end-off))
		if err != nil {
			return err
		}
		if err := use(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}
