package drivertest

import (
	"crypto/sha1" //nolint:gosec // platforms state it
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// digest reads a disk's stream to its end and computes the hashes that the source promises.
func (h *Harness) digest(t *testing.T, v driver.View, disk int) map[string]string {
	t.Helper()
	c, err := v.OpenDisk(t.Context(), v.VM().Disks[disk].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer closeContent(t, c)
	if !h.has(t, "FalsifyDigest", len(c.Digests) > 0) {
		return nil
	}
	sums := make(map[string]hash.Hash)
	var all []io.Writer
	for _, name := range c.Digests {
		switch name {
		case "sha1":
			sums[name] = sha1.New() //nolint:gosec // see the import
		case "sha256":
			sums[name] = sha256.New()
		default:
			t.Fatalf("digest %q is not known", name)
		}
		all = append(all, sums[name])
	}
	if _, err := io.Copy(io.MultiWriter(all...), c.Stream); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for name, sum := range sums {
		out[name] = hex.EncodeToString(sum.Sum(nil))
	}
	return out
}

func testVerify(t *testing.T, h *Harness) {
	t.Helper()
	v := h.open(t, h.Off, driver.OpenOptions{})
	digests := h.digest(t, v, 0)
	compared, err := v.Verify(t.Context(), v.VM().Disks[0].ID, digests)
	if err != nil {
		t.Fatal(err)
	}
	for name := range digests {
		if !slices.Contains(compared, name) {
			t.Errorf("%s was promised but not compared, only %q", name, compared)
		}
	}
	h.finish(t, v, true)
}

func testVerifyFalse(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "FalsifyDigest", h.FalsifyDigest != nil) {
		return
	}
	v := h.open(t, h.Off, driver.OpenOptions{})
	if err := h.FalsifyDigest(h.Off.Name, 0); err != nil {
		t.Fatal(err)
	}
	_, err := v.Verify(t.Context(), v.VM().Disks[0].ID, h.digest(t, v, 0))
	wantCode(t, err, fault.DataLoss)
	h.finish(t, v, false)
}

func testVerifyUnread(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "FalsifyDigest", h.FalsifyDigest != nil) {
		return
	}
	v := h.open(t, h.Off, driver.OpenOptions{})
	_, err := v.Verify(t.Context(), v.VM().Disks[0].ID, map[string]string{"sha256": "00"})
	wantCode(t, err, fault.FailedPrecondition)
	h.finish(t, v, false)
}
