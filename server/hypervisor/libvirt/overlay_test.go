package libvirt

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// overlayHeader is the header of an overlay over file. format may be empty.
func overlayHeader(file, format string) []byte {
	h := make([]byte, qcow2HeaderV3, 4096)
	copy(h, qcow2Magic)
	binary.BigEndian.PutUint32(h[4:], 3)
	binary.BigEndian.PutUint32(h[100:], qcow2HeaderV3)
	extension := func(kind uint32, text string) {
		h = binary.BigEndian.AppendUint32(h, kind)
		h = binary.BigEndian.AppendUint32(h, uint32(len(text)))
		h = append(h, text...)
		h = append(h, make([]byte, (8-len(text)%8)%8)...)
	}
	extension(0x6803f857, "names of features")
	if format != "" {
		extension(qcow2FormatName, format)
	}
	extension(0, "")
	binary.BigEndian.PutUint64(h[8:], uint64(len(h)))
	binary.BigEndian.PutUint32(h[16:], uint32(len(file)))
	return append(h, file...)
}

func TestBackingIsRead(t *testing.T) {
	t.Parallel()
	for _, want := range []backing{{"/d/root.raw", "raw"}, {"/d/root.qcow2", "qcow2"}} {
		got, err := parseBacking(bytes.NewReader(overlayHeader(want.file, want.format)))
		if err != nil || got != want {
			t.Errorf("got %v, want %v: %v", got, want, err)
		}
	}
	if got, err := parseBacking(bytes.NewReader(overlayHeader("/x", ""))); err != nil || got.format != "raw" {
		t.Errorf("without a format: %v, %v", got, err)
	}
	for name, text := range map[string]string{"empty": "", "raw": string(make([]byte, 4096)), "alone": string(overlayHeader("", "raw"))} {
		if got, err := parseBacking(bytes.NewReader([]byte(text))); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestOverlaysAreNotTakenAway(t *testing.T) {
	t.Parallel()
	overlay := filepath.Join(t.TempDir(), "root.redirect")
	if err := os.WriteFile(overlay, overlayHeader("/d/root.raw", "raw"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := &libvirtxml.Domain{Devices: &libvirtxml.DomainDeviceList{
		Disks: []libvirtxml.DomainDisk{describeDisk(hypervisor.Disk{File: overlay, Format: hypervisor.DiskQCOW2}, "vda", 0)},
	}}
	for file, want := range map[string]fault.Code{"/d/root.raw": fault.FailedPrecondition, overlay: 0, "/d/other.raw": 0} {
		err := checkOverlays(old, hypervisor.Spec{Disks: []hypervisor.Disk{{File: file}}})
		if (want == 0) != (err == nil) || err != nil && !fault.Is(err, want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestFreePorts(t *testing.T) {
	t.Parallel()
	const text = `<domain><controller type='pci' index='0' model='pcie-root'/><controller type='pci' index='1' model='pcie-root-port'>` +
		`<address type='pci' bus='0x00' slot='0x02'/></controller><controller type='pci' index='10' model='pcie-root-port'/>` +
		`<disk><address type='pci' bus='0x0a' slot='0x00'/></disk></domain>`
	if free, limited, err := freePorts(text); err != nil || free != 1 || !limited {
		t.Errorf("%d, %v, %v", free, limited, err)
	}
	if free, limited, err := freePorts(`<domain><disk><address type='pci' bus='0x00' slot='0x03'/></disk></domain>`); err != nil || free != 0 || limited {
		t.Errorf("without ports: %d, %v, %v", free, limited, err)
	}
}

func FuzzParseBacking(f *testing.F) {
	f.Add(overlayHeader("/d/root.raw", "raw"))
	f.Add(overlayHeader("/d/root.qcow2", "qcow2"))
	f.Add(overlayHeader("", ""))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = parseBacking(bytes.NewReader(text)) // it must neither hang nor panic
	})
}
