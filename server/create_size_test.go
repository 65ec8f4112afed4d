package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	convertersall "github.com/hyperplane-project/hyperplane/converters/all"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/servertest"
	"github.com/hyperplane-project/hyperplane/server/volume"
)

// TestSizesOfRootVolumes compares what is recorded of a root volume with the file.
func TestSizesOfRootVolumes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, nil)
	const mib = 1 << 20
	for name, c := range map[string]struct {
		image, free, power, size uint64
		want                     uint64
	}{
		"empty":                    {free: mib, want: mib},
		"empty with an odd size":   {free: 1000, want: 1024},
		"empty, rounded":           {free: mib + 512, power: 21, want: 2 * mib},
		"empty, larger wish":       {free: mib, size: 3 * mib, want: 3 * mib},
		"empty, larger, rounded":   {free: mib, size: 3 * mib, power: 22, want: 4 * mib},
		"image":                    {image: mib, want: mib},
		"image and room":           {image: mib, free: 2 * mib, want: 3 * mib},
		"image, rounded":           {image: mib + 512, power: 20, want: 2 * mib},
		"image and room, rounded":  {image: mib, free: 512, power: 22, want: 4 * mib},
		"image, larger wish":       {image: mib, size: 2 * mib, want: 2 * mib},
		"image with an odd length": {image: mib + 1, want: mib + 512},
	} {
		for _, format := range []hypervisorv1.VolumeFormat{hypervisorv1.VolumeFormat_VOLUME_FORMAT_UNSPECIFIED, hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2} {
			what := name + " as " + format.String()
			spec := small()
			spec.VmInfo.Hostname = strings.NewReplacer(" ", "-", ",", "", "_", "-").Replace(what)
			spec.VmInfo.Volumes = []*hypervisorv1.Volume{{Format: format, Size: c.size}}
			spec.ImageDataSize, spec.MinimumFreeBytes, spec.RoundupPower = c.image, c.free, c.power
			made, err := create(t, s, spec, content(int64(c.image), 3))
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			file := filepath.Join(s.Config.StateDir, "volumes", made.GetUuid(), "root")
			disk, err := (&volume.Maker{Formats: convertersall.Formats()}).Size(t.Context(), file, format)
			if v := made.GetVolumes()[0]; err != nil || v.GetSize() != c.want || v.GetVirtualSize() != c.want || disk != c.want {
				t.Errorf("%s: recorded are %d bytes, %d of them virtual, the disk has %d (%v), want %d", what, v.GetSize(), v.GetVirtualSize(), disk, err, c.want)
			}
			info, err := os.Stat(file)
			if raw := format == hypervisorv1.VolumeFormat_VOLUME_FORMAT_UNSPECIFIED; err != nil || raw && uint64(info.Size()) != c.want {
				t.Errorf("%s: the file: %v, %v", what, info, err)
			}
			if _, err := hypervisorv1.NewVmServiceClient(s.DialSocket()).DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: made.GetUuid()}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
