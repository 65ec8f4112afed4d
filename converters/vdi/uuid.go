package vdi

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// A UUID is stored as VirtualBox has it in memory: three little-endian numbers of 4, 2 and 2 bytes, then 8 bytes. swapUUID turns that into the order of its
// text (RFC 9562) and back.
func swapUUID(u [16]byte) [16]byte {
	slices.Reverse(u[0:4])
	slices.Reverse(u[4:6])
	slices.Reverse(u[6:8])
	return u
}

// textUUID returns the lower-case text of a stored UUID, or "" for the one that is all zeros, which stands for none.
func textUUID(stored [16]byte) string {
	if stored == [16]byte{} {
		return ""
	}
	u := swapUUID(stored)
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// newUUIDs returns the UUIDs, as stored, of an image and of its state, which VirtualBox changes when it writes to the image. With no content ID they are
// random.
func newUUIDs(content [16]byte) (id, state [16]byte) {
	if content == [16]byte{} {
		_, _ = rand.Read(content[:]) // never fails
		content = version4(content)
	}
	sum := sha256.Sum256(append([]byte("vdi state"), content[:]...))
	return swapUUID(content), swapUUID(version4([16]byte(sum[:])))
}

// version4 marks u as a random UUID.
func version4(u [16]byte) [16]byte {
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
