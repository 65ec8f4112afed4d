package client

import (
	"errors"
	"io"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// recv says what comes next: the extra files if there are some, then pieces of blocks.
func (v *volumeStream) recv(m *hypervisorv1.GetVmVolumeResponse) error {
	select {
	case <-v.asked:
	case <-v.ctx.Done():
		return fault.As(fault.CodeOf(v.ctx.Err()), v.ctx.Err(), "GetVmVolume")
	}
	if v.failure != nil {
		return v.failure
	}
	if v.extra != nil {
		m.ExtraFiles, v.extra = v.extra, nil
		return nil
	}
	err := v.piece(m)
	switch {
	case err != nil:
		v.call.end(err)
		v.failure = v.call.why(err)
		return v.failure
	case m.GetFinal():
		v.call.end(v.allSent())
		v.failure = io.EOF
	}
	return nil
}

// allSent waits until the sender has no more to say: it has not if the peer knows enough, unless that ends without having listened.
func (v *volumeStream) allSent() error {
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	select {
	case err := <-v.sent:
		return err
	case <-patience.C:
		return errors.New("the peer does not take the digests")
	}
}

// piece reads the next piece of a block, or the end.
func (v *volumeStream) piece(m *hypervisorv1.GetVmVolumeResponse) error {
	if v.left == 0 {
		if err := v.header(); err != nil {
			return err
		}
		if m.Final = v.current.Size == 0; m.GetFinal() {
			return nil
		}
	}
	m.BlockIndex, m.Data = v.current.Index, make([]byte, min(v.left, pieceBytes))
	if _, err := io.ReadFull(v.call.in, m.GetData()); err != nil {
		return unexpected(err)
	}
	v.left -= uint64(len(m.GetData()))
	return nil
}

// header reads what is said before a block.
func (v *volumeStream) header() error {
	v.current = block{}
	if err := v.call.receive(&v.current); err != nil {
		return err
	}
	b := v.current
	switch {
	case b.Error != "":
		return saying(b.Error)
	case b.Size == 0:
		return nil
	case v.tail || b.Index < v.next || b.Index > v.blocks:
		return fault.New(fault.DataLoss, "block %d is sent, where %d to %d could come", b.Index, v.next, v.blocks)
	case b.Index < v.blocks && b.Size > 1<<v.order, b.Size > maxVolume:
		return fault.New(fault.DataLoss, "block %d has %d bytes", b.Index, b.Size)
	}
	v.next, v.left, v.tail = b.Index+1, b.Size, b.Index == v.blocks
	return nil
}
