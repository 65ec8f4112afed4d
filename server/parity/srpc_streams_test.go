package parity_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// srpcStreams are the stream methods of SRPC. Each case talks on a connection that must be usable afterwards if it returns true. The structs
// are written from the protocol's description: the names of the fields are what counts, and both codecs carry them.
func srpcStreams() map[string]func(ctx context.Context, w *world, c *srpctest.Client) (usable bool, err error) {
	return map[string]func(ctx context.Context, w *world, c *srpctest.Client) (bool, error){
		"CreateVm":                createSRPC,
		"GetUpdates":              updatesSRPC,
		"GetVmUserData":           getUserDataSRPC,
		"ReplaceVmUserData":       replaceUserDataSRPC,
		"ConnectToVmSerialPort":   serialSRPC,
		"ConnectToVmConsole":      consoleSRPC,
		"GetVmVolume":             volumeSRPC,
		"ConnectToVmManager":      managerSRPC,
		"GetVmLastPatchLog":       patchLogSRPC,
		"GetVmVirtualiserLogFile": logFileSRPC,
		"TraceVmMetadata":         traceSRPC,
		"WatchDhcp":               watchDHCPSRPC,
		"ReplaceVmImage":          replaceImageSRPC,
		"DebugVmImage":            debugImageSRPC,
		"PatchVmImage":            patchImageSRPC,
		"CopyVm":                  copySRPC,
		"MigrateVm":               migrateSRPC,
		"ScanVmRoot":              scanSRPC,
	}
}

// trySRPCStream runs a method's case and returns its cell. Each has a server of its own: the addresses of one do not suffice for all cases.
func trySRPCStream(ctx context.Context, t *testing.T, m protoreflect.MethodDescriptor, tr transport) string {
	t.Helper()
	talk, ok := srpcStreams()[string(m.Name())]
	if !ok {
		return notYet
	}
	w := newWorld(t)
	c, err := srpctest.Dial(ctx, t, "tcp", w.Addr, tr.(srpcTransport).path, w.TLS(true))
	if err != nil {
		t.Fatal(err)
	}
	usable, err := talk(ctx, w, c)
	if err == nil && usable {
		err = c.Ping()
	}
	if err != nil {
		t.Fatal(err)
	}
	return works
}

// failed is the Error field of an answer as an error.
func failed(text string) error {
	if text != "" {
		return errors.New(text)
	}
	return nil
}

type (
	// VmInfo is some of what a request can say of a VM; embedded, so that it is called so.
	VmInfo struct {
		Hostname    string
		MemoryInMiB uint64
		MilliCPUs   uint
		Tags        map[string]string
	}
	srpcVolume struct{ Size uint64 }
	srpcCreate struct {
		DoNotStart, SecondaryVolumesData              bool
		ImageDataSize, MinimumFreeBytes, UserDataSize uint64
		SecondaryVolumes                              []srpcVolume
		VmInfo
	}
	srpcCreated struct {
		DhcpTimedOut, Final    bool
		IpAddress              net.IP
		ProgressMessage, Error string
	}
	srpcVM struct {
		IpAddress  net.IP
		PortNumber uint
		Size       uint64
	}
	srpcLength struct {
		Error  string
		Length uint64
	}
)

// createSRPC creates a VM from raw bytes, and acknowledges it on the same connection.
func createSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	call, err := c.Converse("Hypervisor.CreateVm")
	if err != nil {
		return false, err
	}
	image, userData, second := bytes.Repeat([]byte{7}, 1<<20+17), []byte(someText()), bytes.Repeat([]byte{9}, 4096)
	request := srpcCreate{
		true, true, uint64(len(image)), 1 << 20, uint64(len(userData)),
		[]srpcVolume{{4096}},
		VmInfo{"legacy", 64, 250, map[string]string{"from": "srpc"}},
	}
	if err := call.Send(request); err != nil {
		return false, err
	}
	if _, err := c.Write(slices.Concat(image, userData, second)); err != nil {
		return false, err
	}
	var m srpcCreated
	for told := 0; !m.Final; told++ {
		m = srpcCreated{}
		if err := errors.Join(call.Receive(&m), failed(m.Error)); err != nil {
			return false, err
		}
		if m.Final && told == 0 {
			return false, errors.New("no progress was told")
		}
	}
	vm := m.IpAddress.String()
	info := w.info(ctx, vm)
	if v := info.GetVolumes(); len(v) != 2 || v[0].GetSize() < 2<<20 || v[1].GetSize() != 4096 || info.GetTags()["from"] != "srpc" {
		return false, fmt.Errorf("created %v", info)
	}
	if got := w.userDataOf(ctx, vm); got != someText() {
		return false, fmt.Errorf("user data %q", got)
	}
	var reply srpctest.ErrorReply
	return true, errors.Join(c.Call("Hypervisor.AcknowledgeVm", srpcVM{IpAddress: m.IpAddress}, &reply), failed(reply.Error))
}

// updatesSRPC reads the full state, which nobody asked for, an answer to an empty request, a change, and a deletion.
func updatesSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	type update struct {
		HaveAddressPool, HaveDisabled, HaveSubnets, HaveVMs bool
		AvailableMemoryInMiB                                *uint64
		HealthStatus                                        string
		VMs                                                 map[string]*struct {
			Hostname string
			Volumes  []srpcVolume
		}
	}
	vm := w.vm(ctx, false)
	call, err := c.Converse("Hypervisor.GetUpdates")
	if err != nil {
		return false, err
	}
	next := func(what string, done func(u update) bool) error {
		for {
			var u update
			if err := call.Receive(&u); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			if done(u) {
				return nil
			}
		}
	}
	var first update
	err = errors.Join(err, next("full", func(u update) bool { first = u; return true }))
	if err != nil || !first.HaveAddressPool || !first.HaveDisabled || !first.HaveVMs || first.VMs[vm] == nil || len(first.VMs[vm].Volumes) == 0 ||
		first.AvailableMemoryInMiB == nil {
		return false, fmt.Errorf("full state %+v: %w", first, err)
	}
	if first.HealthStatus != "" && first.HealthStatus != "healthy" {
		return false, fmt.Errorf("health %q", first.HealthStatus)
	}
	if err := call.Send(struct{ RegisterExternalLeasesRequest *struct{ Hostnames []string } }{}); err != nil {
		return false, err
	}
	if err := next("answer", func(u update) bool { return !u.HaveVMs && !u.HaveAddressPool && !u.HaveDisabled }); err != nil {
		return false, err
	}
	if _, err := w.vms().DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: vm}); err != nil {
		return false, err
	}
	return false, next("deletion", func(u update) bool { return u.VMs[vm] != nil && len(u.VMs[vm].Volumes) == 0 })
}

func getUserDataSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	for _, vm := range []string{w.vmWithUserData(ctx, someText()), w.vm(ctx, false)} {
		call, err := c.Converse("Hypervisor.GetVmUserData")
		if err != nil {
			return false, err
		}
		var m srpcLength
		if err := errors.Join(call.Send(srpcVM{IpAddress: net.ParseIP(vm)}), call.Receive(&m), failed(m.Error)); err != nil {
			return false, err
		}
		got := make([]byte, m.Length)
		if _, err := io.ReadFull(c.In, got); err != nil || string(got) != w.userDataOf(ctx, vm) {
			return false, fmt.Errorf("user data %q: %w", got, err)
		}
	}
	return true, nil
}

// replaceUserDataSRPC uploads, is refused with an upload, which is drained, and goes on.
func replaceUserDataSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	replace := func(vm, text string) error {
		call, err := c.Converse("Hypervisor.ReplaceVmUserData")
		if err != nil {
			return err
		}
		var m srpctest.ErrorReply
		if err := call.Send(srpcVM{IpAddress: net.ParseIP(vm), Size: uint64(len(text))}); err != nil {
			return err
		}
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
		return errors.Join(c.Status(true), call.Receive(&m), failed(m.Error))
	}
	vm := w.vm(ctx, false)
	if err := replace("192.0.2.99", "Hypervisor.ListVMs\nis no call\n"); err == nil || !strings.Contains(err.Error(), "192.0.2.99") {
		return false, fmt.Errorf("an unknown VM: %w", err)
	}
	if err := replace(vm, someText()); err != nil {
		return false, err
	}
	return true, differ(w.userDataOf(ctx, vm), someText())
}

// connect begins a byte pipe.
func connect(c *srpctest.Client, method, vm string) error {
	call, err := c.Converse(method)
	if err != nil {
		return err
	}
	var m srpctest.ErrorReply
	return errors.Join(call.Send(srpcVM{IpAddress: net.ParseIP(vm)}), call.Receive(&m), failed(m.Error))
}

func chunk(c *srpctest.Client) func() ([]byte, error) {
	buf := make([]byte, 512)
	return func() ([]byte, error) { n, err := c.In.Read(buf); return buf[:n], err }
}

// ends checks that the server has closed the connection, which can not be used any more.
func ends(c *srpctest.Client) error {
	if b, err := c.In.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the connection goes on with %q: %w", b, err)
	}
	return nil
}

// serialSRPC is refused first, then talks to the port until the VM ends.
func serialSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	if err := connect(c, "Hypervisor.ConnectToVmSerialPort", w.vm(ctx, false)); err == nil || !strings.Contains(err.Error(), "not running") {
		return false, fmt.Errorf("a stopped VM: %w", err)
	}
	vm := w.vm(ctx, true)
	if err := connect(c, "Hypervisor.ConnectToVmSerialPort", vm); err != nil {
		return false, err
	}
	if _, err := io.WriteString(c, "parity\n"); err != nil {
		return false, err
	}
	if err := until("ECHO:parity", chunk(c)); err != nil {
		return false, err
	}
	if _, err := w.vms().DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: vm}); err != nil {
		return false, err
	}
	return false, errors.Join(until("VM serial port closed\n", chunk(c)), ends(c))
}

func consoleSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	if err := connect(c, "Hypervisor.ConnectToVmConsole", w.vm(ctx, true)); err != nil {
		return false, err
	}
	return false, until("RFB 003.008\n", chunk(c))
}

// volumeSRPC reads a volume by the blocks that differ and what follows the client's blocks, then as one block. A bad index is refused before.
func volumeSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	type request struct {
		IpAddress   net.IP
		VolumeIndex uint
	}
	type blocks struct {
		BlockOrder uint8
		NumBlocks  uint64
	}
	type block struct {
		Error       string
		Index, Size uint64
	}
	vm := net.ParseIP(w.vmWith(ctx, 1<<20))
	zeros, other := sha512.Sum512(make([]byte, 1<<16)), sha512.Sum512(nil)
	get := func(index uint, ask blocks, digests []byte) (string, error) {
		call, err := c.Converse("Hypervisor.GetVmVolume")
		if err != nil {
			return "", err
		}
		var m srpctest.ErrorReply
		if err := errors.Join(call.Send(request{vm, index}), call.Receive(&m), failed(m.Error)); err != nil {
			return "", err
		}
		if err := call.Send(ask); err != nil {
			return "", err
		}
		if _, err := c.Write(digests); err != nil {
			return "", err
		}
		for got := ""; ; {
			var b block
			if err := errors.Join(call.Receive(&b), failed(b.Error)); err != nil || b.Size == 0 {
				return got, err
			}
			content := make([]byte, b.Size)
			if _, err := io.ReadFull(c.In, content); err != nil {
				return got, err
			}
			if len(bytes.Trim(content, "\x00")) > 0 {
				return got, errors.New("not empty")
			}
			got += fmt.Sprintf("%d+%d ", b.Index, b.Size)
		}
	}
	if _, err := get(7, blocks{}, nil); err == nil || !strings.Contains(err.Error(), "7") {
		return false, fmt.Errorf("volume 7: %w", err)
	}
	if got, err := get(1, blocks{16, 14}, append(other[:], bytes.Repeat(zeros[:], 13)...)); err != nil || got != "0+65536 14+131072 " {
		return false, fmt.Errorf("blocks %q: %w", got, err)
	}
	if got, err := get(1, blocks{9, 0}, nil); err != nil || got != "0+1048576 " {
		return false, fmt.Errorf("whole %q: %w", got, err)
	}
	return true, nil
}

// TestSRPCNotAcknowledged: a VM whose creator does not acknowledge it is destroyed.
func TestSRPCNotAcknowledged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := srpctest.Dial(ctx, t, "tcp", w.Addr, srpctest.SecureGob, w.TLS(true))
	if err != nil {
		t.Fatal(err)
	}
	call, err := c.Converse("Hypervisor.CreateVm")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	m := srpcCreated{}
	if err := call.Send(srpcCreate{DoNotStart: true, MinimumFreeBytes: 1 << 20, VmInfo: VmInfo{MemoryInMiB: 64, MilliCPUs: 250}}); err != nil {
		t.Fatal(err)
	}
	for !m.Final {
		m = srpcCreated{}
		if err := errors.Join(call.Receive(&m), failed(m.Error)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := hypervisorv1.NewMonitoringServiceClient(w.cc).GetUpdates(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.GetUpdatesRequest{}); err != nil {
		t.Fatal(err)
	}
	for {
		u, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range u.GetUpdate().GetDeletedVms() {
			if d.GetIpAddress() == m.IpAddress.String() && time.Since(begun) > 10*time.Second {
				return
			}
		}
	}
}
