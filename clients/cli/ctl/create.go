package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hyperplane-project/hyperplane/clients/cli/output"
	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/units"
)

// createFlags are the flags of vm create.
type createFlags struct {
	memory, image, imageURL, imageName, size, format, firmware, machine, console, mac, ip, userData string
	cpus, milliCPUs                                                                                 uint32
	subnet, ipv6                                                                                    string
	tags                                                                                            map[string]string
	owners                                                                                          []string
	noStart, protect, plainDevices, netboot                                                         bool
	disks                                                                                           []string
	overlay                                                                                         map[string]string
	dhcpTimeout                                                                                     time.Duration
}

func (a *app) vmCreate() *cobra.Command {
	f := new(createFlags)
	c := &cobra.Command{
		Use: "create NAME", Short: "Create a VM from an image, a URL or an empty disk", Args: cobra.ExactArgs(1),
		Example: `  hyperctl vm create web-1 --memory 2G --cpus 2 --image debian.qcow2
  hyperctl vm create web-2 --memory 2G --cpus 2 --image-url https://example.com/debian.qcow2
  hyperctl vm create web-3 --memory 2G --cpus 2 --image-name debian-13 --user-data cloud-config.yaml --disk 20G
  hyperctl vm create empty --memory 1G --size 20G --no-start`,
		RunE: a.with(func(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, args []string) error {
			spec, err := f.spec(args[0])
			if err != nil {
				return err
			}
			return a.create(ctx, c, cc, spec, f)
		}),
	}
	s := c.Flags()
	s.StringVar(&f.memory, "memory", "1G", "memory `size`")
	s.Uint32Var(&f.cpus, "cpus", 0, "number of virtual processors (default: enough for --milli-cpus)")
	s.Uint32Var(&f.milliCPUs, "milli-cpus", 0, "processor time in thousandths of a processor (default 1000 for each processor)")
	s.StringVar(&f.image, "image", "", "image `file` on this machine, any format")
	s.StringVar(&f.imageURL, "image-url", "", "image `URL` that the server fetches: http, https, or file below its image directory")
	s.StringVar(&f.imageName, "image-name", "", "`name` of one of the host's images, see hyperctl image list")
	s.StringVar(&f.userData, "user-data", "", "`file` of user data for cloud-init and the metadata service")
	s.StringArrayVar(&f.disks, "disk", nil, "`size` of a further, empty volume; may be repeated")
	s.StringToStringVar(&f.overlay, "overlay", nil, "`path=file`: put a file of this machine into the root file system; may be repeated")
	s.BoolVar(&f.netboot, "netboot", false, "boot from the network at the first start")
	s.DurationVar(&f.dhcpTimeout, "dhcp-timeout", 0, "wait this long for the guest to take its address")
	s.StringVar(&f.size, "size", "", "free space `size` beyond the image; without an image the size of the empty disk")
	s.StringVar(&f.format, "format", "raw", "format of the root volume: raw or qcow2")
	s.StringVar(&f.firmware, "firmware", "", "bios or uefi")
	s.StringVar(&f.machine, "machine", "", "pc, q35 or virt")
	s.StringVar(&f.console, "console", "", "none, dummy or vnc")
	s.StringVar(&f.subnet, "subnet", "", "`subnet`, if there are several")
	s.StringVar(&f.ip, "ip", "", "IP `address` (default: a free one)")
	s.StringVar(&f.ipv6, "ipv6", "", "IPv6 `address` in the subnet's prefix (default: none)")
	s.StringVar(&f.mac, "mac", "", "MAC `address` (default: made from the IP address)")
	s.StringToStringVar(&f.tags, "tag", nil, "`key=value`, may be repeated")
	s.StringSliceVar(&f.owners, "owner", nil, "`user` who owns it too, may be repeated")
	s.BoolVar(&f.noStart, "no-start", false, "leave it stopped")
	s.BoolVar(&f.protect, "protect", false, "refuse to destroy it while it runs")
	s.BoolVar(&f.plainDevices, "no-virtio", false, "ordinary disk and network card for guests without virtio drivers")
	return c
}

func (f *createFlags) spec(name string) (*hypervisorv1.CreateVmSpec, error) {
	info := &hypervisorv1.VmInfo{
		Hostname: name, VirtualCpus: f.cpus, MilliCpus: f.milliCPUs, ImageUrl: f.imageURL, ImageName: f.imageName, SubnetId: f.subnet, Tags: f.tags, OwnerUsers: f.owners,
		DestroyProtection: f.protect, DisableVirtio: f.plainDevices, Address: &hypervisorv1.Address{IpAddress: f.ip, MacAddress: f.mac, Ipv6Address: f.ipv6},
	}
	if info.GetMilliCpus() == 0 {
		info.MilliCpus = max(1, f.cpus) * 1000
	}
	var err error
	if info.MemoryInMib, err = mebibytes(f.memory); err != nil {
		return nil, err
	}
	root := &hypervisorv1.Volume{}
	for _, choice := range []struct {
		flag, value, prefix string
		values              map[string]int32
		set                 func(int32)
		zero                string
	}{
		{"format", f.format, "VOLUME_FORMAT_", hypervisorv1.VolumeFormat_value, func(n int32) { root.Format = hypervisorv1.VolumeFormat(n) }, "raw"},
		{"firmware", f.firmware, "FIRMWARE_TYPE_", hypervisorv1.FirmwareType_value, func(n int32) { info.FirmwareType = hypervisorv1.FirmwareType(n) }, ""},
		{"machine", f.machine, "MACHINE_TYPE_", hypervisorv1.MachineType_value, func(n int32) { info.MachineType = hypervisorv1.MachineType(n) }, ""},
		{"console", f.console, "CONSOLE_TYPE_", hypervisorv1.ConsoleType_value, func(n int32) { info.ConsoleType = hypervisorv1.ConsoleType(n) }, "none"},
	} {
		if choice.value == "" || choice.value == choice.zero {
			continue
		}
		n, ok := choice.values[choice.prefix+strings.ToUpper(choice.value)]
		if !ok || n == 0 {
			return nil, fault.New(fault.InvalidArgument, "--%s: %q is not known; see --help", choice.flag, choice.value)
		}
		choice.set(n)
	}
	info.Volumes = []*hypervisorv1.Volume{root}
	spec := &hypervisorv1.CreateVmSpec{VmInfo: info, DoNotStart: f.noStart, EnableNetboot: f.netboot}
	if f.dhcpTimeout != 0 {
		spec.DhcpTimeout = durationpb.New(f.dhcpTimeout)
	}
	for _, size := range f.disks {
		n, err := units.ParseBytes(size)
		if err != nil {
			return nil, fault.Wrap(err, "--disk")
		}
		spec.SecondaryVolumes = append(spec.SecondaryVolumes, &hypervisorv1.Volume{Size: n, Format: root.GetFormat()})
	}
	for path, file := range f.overlay {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fault.Wrap(err, "--overlay %s", path)
		}
		if spec.OverlayFiles == nil {
			spec.OverlayFiles = make(map[string][]byte)
		}
		spec.OverlayFiles[path] = content
	}
	if f.size != "" {
		if spec.MinimumFreeBytes, err = units.ParseBytes(f.size); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// create sends the request, and the image if it is a file here, and shows the VM.
func (a *app) create(ctx context.Context, c *cobra.Command, cc *grpc.ClientConn, spec *hypervisorv1.CreateVmSpec, f *createFlags) (err error) {
	var image, userData *os.File
	if image, spec.ImageDataSize, err = openFile("image", f.image); err != nil {
		return err
	}
	defer image.Close() //nolint:errcheck // only read; nil has nothing to close
	if userData, spec.UserDataSize, err = openFile("user data", f.userData); err != nil {
		return err
	}
	defer userData.Close() //nolint:errcheck // as above
	display, err := a.display(c.ErrOrStderr())
	if err != nil {
		return err
	}
	defer display.Close()
	stream, err := hypervisorv1.NewVmServiceClient(cc).CreateVm(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- sendParts(stream, image, userData) }()
	last, err := follow(stream, display)
	if err != nil {
		return err
	}
	display.Close()
	if err := <-sent; err != nil {
		return err
	}
	info := last.GetVmInfo()
	if last.GetDhcpTimedOut() {
		fmt.Fprintf(c.ErrOrStderr(), "the guest has not taken its address within %s\n", f.dhcpTimeout)
	}
	return output.Write(c.OutOrStdout(), a.format, info, func() output.Rows {
		return output.Rows{Cells: [][]string{{fmt.Sprintf("created %s at %s", info.GetHostname(), info.GetAddress().GetIpAddress()), info.GetUuid()}}}
	})
}

// openFile opens a file that is to be sent and returns its size; an empty name is no file.
func openFile(what, name string) (*os.File, uint64, error) {
	if name == "" {
		return nil, 0, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, fault.Wrap(err, "%s", what)
	}
	st, err := file.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, 0, errors.Join(fault.New(fault.InvalidArgument, "%s %s: is not a regular file", what, name), file.Close())
	}
	return file, uint64(st.Size()), nil
}

// sendParts sends the image and then the user data.
func sendParts(stream grpc.BidiStreamingClient[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse], image, userData *os.File) error {
	err := sendFile(image, func(piece []byte) error {
		return stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_ImageData{ImageData: piece}})
	})
	if err != nil {
		return fault.Wrap(err, "image")
	}
	return fault.Wrap(sendFile(userData, func(piece []byte) error {
		return stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_UserData{UserData: piece}})
	}), "user data")
}

// sendFile sends a file in pieces; nil is none. A server that has ended the call says why itself.
func sendFile(file *os.File, send func(piece []byte) error) error {
	if file == nil {
		return nil
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := file.Read(buf)
		if n > 0 && send(buf[:n]) != nil {
			return nil //nolint:nilerr // see above
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// follow shows the progress and returns the last answer.
func follow(
	stream grpc.BidiStreamingClient[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse], d *progress.Display,
) (*hypervisorv1.CreateVmResponse, error) {
	for {
		m, err := stream.Recv()
		if err != nil || m.GetFinal() {
			return m, err
		}
		d.Update(progress.State{Phase: m.GetProgressMessage(), Done: m.GetBytesDone(), Total: m.GetBytesTotal()})
	}
}
