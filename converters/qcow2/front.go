package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// header returns what the first cluster begins with: the header, its extensions, and the backing file's name.
func (w *writer) header(refcountTable, refcountClusters int64) []byte {
	be := binary.BigEndian
	b := make([]byte, headerWithCompression)
	copy(b, magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], uint32(log2(w.cluster)))
	be.PutUint64(b[24:], uint64(w.size))
	be.PutUint32(b[36:], uint32(len(w.l1)))
	be.PutUint64(b[40:], uint64(w.l1At))
	be.PutUint64(b[48:], uint64(refcountTable))
	be.PutUint32(b[56:], uint32(refcountClusters))
	be.PutUint32(b[96:], refcountOrder)
	be.PutUint32(b[100:], headerWithCompression)
	var features uint64
	if w.zstd {
		features |= featureCompression
		b[104] = compressZstd
	}
	if w.extended {
		features |= featureExtendedL2
	}
	be.PutUint64(b[72:], features)
	return w.appendBacking(b)
}

// appendBacking appends the header extensions, which name the format of the backing file, and then its name, which the header points to.
func (w *writer) appendBacking(b []byte) []byte {
	be := binary.BigEndian
	if w.backing == nil {
		return append(b, make([]byte, 8)...) // the end of the extensions
	}
	format := qemuFormat(w.backing.Format)
	b = be.AppendUint32(b, extensionBackingFormat)
	b = be.AppendUint32(b, uint32(len(format)))
	b = append(b, format...)
	b = append(b, make([]byte, -len(format)&7+8)...)
	be.PutUint64(b[8:], uint64(len(b)))
	be.PutUint32(b[16:], uint32(len(w.backing.Name)))
	return append(b, w.backing.Name...)
}

// checkHeader refuses a name that does not fit into the first cluster.
func (w *writer) checkHeader() error {
	if n := int64(len(w.header(0, 0))); n > w.cluster {
		return fault.New(fault.InvalidArgument, "qcow2: the backing file's name is too long for a first cluster of %d bytes; choose larger clusters", w.cluster)
	}
	return nil
}
