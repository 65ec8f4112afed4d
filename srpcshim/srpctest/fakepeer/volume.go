package fakepeer

import (
	"bufio"
	"bytes"
	"crypto/sha512"
	"encoding/gob"
	"errors"
	"net"
	"slices"
)

// volumeRequest is the request of GetVmVolume.
type volumeRequest struct {
	AccessToken                     []byte
	GetExtraFiles, IgnoreExtraFiles bool
	IpAddress                       net.IP
	VolumeIndex                     uint
}

// volumeReply is its first answer.
type volumeReply struct {
	Error      string
	ExtraFiles map[string][]byte
}

// blocksRequest says what the client has.
type blocksRequest struct {
	BlockOrder uint8
	NumBlocks  uint64
}

// block comes before the bytes of a block.
type block struct {
	Error       string
	Index, Size uint64
}

// reading is one GetVmVolume.
type reading struct {
	*session
	out  *bufio.Writer
	enc  *gob.Encoder
	data []byte
}

// volume sends a volume. Its messages have no status lines; type definitions travel once.
func (s *session) volume() error {
	decode := gob.NewDecoder(s.in)
	var r volumeRequest
	if err := decode.Decode(&r); err != nil {
		return err
	}
	if err := s.broken(); err != nil {
		return err
	}
	s.note(func(c *Call) { c.Volume = r.VolumeIndex })
	v := &reading{session: s, out: bufio.NewWriterSize(s.conn, 4<<10)}
	v.enc = gob.NewEncoder(v.out)
	answer := s.admitVolume(&r)
	s.failed(answer.Error)
	if err := errors.Join(v.enc.Encode(answer), v.out.Flush()); err != nil || answer.Error != "" {
		return err
	}
	var have blocksRequest
	if err := decode.Decode(&have); err != nil {
		return err
	}
	if have.BlockOrder < 9 || have.BlockOrder > 32 {
		s.peer.problem("block order %d", have.BlockOrder)
		return errEnd
	}
	s.note(func(c *Call) { c.Blocks = have.NumBlocks })
	s.peer.mu.Lock()
	v.data = slices.Clone(s.peer.opts.Volumes[r.VolumeIndex])
	s.peer.mu.Unlock()
	return errors.Join(v.blocks(have), v.out.Flush())
}

func (s *session) admitVolume(r *volumeRequest) *volumeReply {
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	o := s.peer.opts
	text := s.denied(r.IpAddress, r.AccessToken)
	switch {
	case text != "":
		return &volumeReply{Error: text}
	case s.fault.Kind == Fail:
		return &volumeReply{Error: s.fault.Text}
	case r.VolumeIndex >= uint(len(o.Volumes)):
		return &volumeReply{Error: "index too large"}
	case r.VolumeIndex == 0 && len(o.ExtraFiles) > 0 && !r.GetExtraFiles && !r.IgnoreExtraFiles:
		return &volumeReply{Error: "cannot get root volume with separate kernel"}
	case r.VolumeIndex == 0 && r.GetExtraFiles:
		return &volumeReply{ExtraFiles: o.ExtraFiles}
	}
	return &volumeReply{}
}

// blocks sends the blocks whose digests differ, everything behind them as one, and the end.
func (v *reading) blocks(have blocksRequest) error {
	size := uint64(1) << have.BlockOrder
	for i := range have.NumBlocks {
		var digest [64]byte
		if n, err := v.in.Read(digest[:]); err != nil {
			return err
		} else if n < len(digest) {
			v.peer.problem("a digest straddles a record")
			return v.enc.Encode(&block{Error: "short read"})
		}
		begin := i * size
		if begin >= uint64(len(v.data)) {
			continue
		}
		part := v.data[begin:min(begin+size, uint64(len(v.data)))]
		if sum := sha512.Sum512(part); bytes.Equal(sum[:], digest[:]) {
			continue
		}
		if err := v.send(i, part); err != nil {
			return err
		}
	}
	if begin := have.NumBlocks * size; begin < uint64(len(v.data)) {
		if err := v.send(have.NumBlocks, v.data[begin:]); err != nil {
			return err
		}
	}
	return v.enc.Encode(&block{Index: have.NumBlocks})
}

func (v *reading) send(index uint64, part []byte) error {
	head := &block{Index: index, Size: uint64(len(part))}
	switch v.fault.Kind {
	case Overflow:
		head.Size = 1 << 63
	case Stray:
		head.Index = 1 << 40
	case Tear:
		_ = v.enc.Encode(head) // it ends anyway
		_, _ = v.out.Write(part[:len(part)/2])
		_ = v.out.Flush()
		return errEnd
	default:
	}
	if err := v.enc.Encode(head); err != nil {
		return err
	}
	v.note(func(c *Call) { c.Sent += uint64(len(part)) })
	_, err := v.out.Write(part)
	return err
}
