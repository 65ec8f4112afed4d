package parity_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

func managerSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	if err := connect(c, "Hypervisor.ConnectToVmManager", w.vm(ctx, true)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(c, managerCommand); err != nil {
		return false, err
	}
	return false, until(managerAnswer, chunk(c))
}

// file asks for something that comes as a length and raw bytes.
func file(c *srpctest.Client, method string, request any) (string, error) {
	call, err := c.Converse(method)
	if err != nil {
		return "", err
	}
	var m struct {
		Error     string
		Length    uint64
		PatchTime time.Time
	}
	if err := errors.Join(call.Send(request), call.Receive(&m), failed(m.Error)); err != nil {
		return "", err
	}
	got := make([]byte, m.Length)
	_, err = io.ReadFull(c.In, got)
	return string(got), err
}

func patchLogSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	got, err := file(c, "Hypervisor.GetVmLastPatchLog", srpcVM{IpAddress: net.ParseIP(w.vm(ctx, false))})
	if err != nil || got != "" {
		return false, fmt.Errorf("log %q: %w", got, err)
	}
	vm := w.imageVM(ctx, true)
	stream, err := w.images().PatchVmImage(ctx, &hypervisorv1.PatchVmImageRequest{Vm: vm, ImageName: w.localImage(ctx, "patched")})
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		return false, err
	}
	got, err = file(c, "Hypervisor.GetVmLastPatchLog", srpcVM{IpAddress: net.ParseIP(vm)})
	if err != nil || !strings.Contains(got, "write /etc/version\n") {
		return false, fmt.Errorf("log %q: %w", got, err)
	}
	return true, nil
}

func logFileSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	vm, filename := w.vmWithLog(ctx, someText())
	type request struct {
		Filename  string
		IpAddress net.IP
	}
	if _, err := file(c, "Hypervisor.GetVmVirtualiserLogFile", request{"../secret", net.ParseIP(vm)}); err == nil {
		return false, errors.New("a path was taken for a name")
	}
	got, err := file(c, "Hypervisor.GetVmVirtualiserLogFile", request{filename, net.ParseIP(vm)})
	if err != nil {
		return false, err
	}
	return true, differ(got, someText())
}

func traceSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	vm := w.vm(ctx, true)
	if err := connect(c, "Hypervisor.TraceVmMetadata", vm); err != nil {
		return false, err
	}
	if err := w.destroy(ctx, vm); err != nil {
		return false, err
	}
	return false, errors.Join(until("VM destroyed\n\n", chunk(c)), ends(c))
}

func watchDHCPSRPC(ctx context.Context, _ *world, c *srpctest.Client) (bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := c.Converse("Hypervisor.WatchDhcp")
	if err != nil {
		return false, err
	}
	if err := ask(ctx); err != nil {
		return false, err
	}
	if err := call.Send(struct {
		Interface  string
		MaxPackets uint64
	}{"lo", 2}); err != nil {
		return false, err
	}
	for range 2 {
		var m struct {
			Error, Interface string
			Packet           []byte
		}
		if err := errors.Join(call.Receive(&m), failed(m.Error)); err != nil {
			return false, err
		}
		if p, err := dhcpv4.FromBytes(m.Packet); err != nil || m.Interface != "lo" || p.MessageType() != dhcpv4.MessageTypeDiscover {
			return false, fmt.Errorf("packet %v: %w", m, err)
		}
	}
	return true, nil
}

type srpcImage struct {
	ImageDataSize uint64
	ImageName     string
	IpAddress     net.IP
}

// converse sends a request and raw bytes and reads answers until the last one.
func converse(c *srpctest.Client, method string, request any, raw []byte) (last srpcCreated, err error) {
	call, err := c.Converse(method)
	if err != nil {
		return last, err
	}
	if err := call.Send(request); err != nil {
		return last, err
	}
	if _, err := c.Write(raw); err != nil {
		return last, err
	}
	for !last.Final {
		last = srpcCreated{}
		if err := errors.Join(call.Receive(&last), failed(last.Error)); err != nil {
			return last, err
		}
	}
	return last, nil
}

// replaceImageSRPC is refused with an upload first, which is drained.
func replaceImageSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	vm, raw := w.imageVM(ctx, true), w.root("newer")
	for _, to := range []string{"192.0.2.99", vm} {
		_, err := converse(c, "Hypervisor.ReplaceVmImage", srpcImage{uint64(len(raw)), "", net.ParseIP(to)}, raw)
		if (err == nil) != (to == vm) {
			return false, fmt.Errorf("VM %s: %w", to, err)
		}
	}
	return true, w.becameVersion(ctx, vm, "", uint64(len("newer")))
}

func debugImageSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	vm := w.imageVM(ctx, true)
	if _, err := converse(c, "Hypervisor.DebugVmImage", srpcImage{0, w.localImage(ctx, "debug"), net.ParseIP(vm)}, nil); err != nil {
		return false, err
	}
	return true, w.isDebugged(ctx, vm)
}

func patchImageSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	vm, image := w.imageVM(ctx, true), w.localImage(ctx, "patched")
	if _, err := converse(c, "Hypervisor.PatchVmImage", srpcImage{0, "no such image", net.ParseIP(vm)}, nil); err == nil {
		return false, errors.New("patched by an image that is not there")
	}
	if _, err := converse(c, "Hypervisor.PatchVmImage", srpcImage{0, image, net.ParseIP(vm)}, nil); err != nil {
		return false, err
	}
	return true, w.wasPatched(ctx, vm, image)
}

// destination is a journey with a connection to where it ends.
func destination(ctx context.Context, w *world, path string) (*journey, *srpctest.Client, error) {
	j, err := newJourney(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	c, err := srpctest.Dial(ctx, w.t, "tcp", j.there.Addr, path, j.there.TLS(true))
	return j, c, err
}

func copySRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	j, c, err := destination(ctx, w, c.Path)
	if err != nil {
		return false, err
	}
	last, err := converse(c, "Hypervisor.CopyVm", struct {
		AccessToken      []byte
		IpAddress        net.IP
		SourceHypervisor string
		VmInfo
	}{j.token, net.ParseIP(j.vm.GetAddress().GetIpAddress()), j.from, VmInfo{Hostname: "twin"}}, nil)
	if err != nil {
		return false, err
	}
	return true, errors.Join(c.Ping(), j.arrived(ctx, last.IpAddress.String(), hypervisorv1.State_STATE_STOPPED))
}

// migrateSRPC is asked whether the VM shall stay.
func migrateSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	j, c, err := destination(ctx, w, c.Path)
	if err != nil {
		return false, err
	}
	call, err := c.Converse("Hypervisor.MigrateVm")
	if err != nil {
		return false, err
	}
	if err := call.Send(struct {
		AccessToken      []byte
		IpAddress        net.IP
		SourceHypervisor string
	}{j.token, net.ParseIP(j.vm.GetAddress().GetIpAddress()), j.from}); err != nil {
		return false, err
	}
	for asked := false; ; {
		var m struct {
			Error                string
			Final, RequestCommit bool
			ProgressMessage      string
		}
		if err := errors.Join(call.Receive(&m), failed(m.Error)); err != nil {
			return false, err
		}
		if m.Final {
			if !asked {
				return false, errors.New("nobody asked for the commit")
			}
			return true, errors.Join(c.Ping(), j.arrived(ctx, j.vm.GetUuid(), hypervisorv1.State_STATE_RUNNING))
		}
		if m.RequestCommit {
			asked = true
			if err := call.Send(struct{ Commit bool }{true}); err != nil {
				return false, err
			}
		}
	}
}

// scanSRPC is refused for a VM that runs, then gets the tree, without what was filtered out.
func scanSRPC(ctx context.Context, w *world, c *srpctest.Client) (bool, error) {
	type filter struct{ FilterLines []string }
	type entry struct {
		Name        string
		InodeNumber uint64
	}
	type directory struct {
		EntryList []entry
		Mode      uint32
	}
	var reply struct {
		Error      string
		FileSystem struct {
			NumRegularInodes, TotalDataBytes, DirectoryCount uint64
			EntryList                                        []entry // flat in JSON
			DirectoryInode                                   directory
		}
	}
	request := struct {
		IpAddress net.IP
		Filter    *filter
	}{net.ParseIP(w.vm(ctx, true)), nil}
	if err := c.Call("Hypervisor.ScanVmRoot", request, &reply); err != nil || !strings.Contains(reply.Error, "be scanned") {
		return false, fmt.Errorf("a VM that runs: %q, %w", reply.Error, err)
	}
	reply.Error = ""
	request.IpAddress, request.Filter = net.ParseIP(w.imageVM(ctx, false)), &filter{[]string{"/lost"}}
	if err := c.Call("Hypervisor.ScanVmRoot", request, &reply); err != nil || reply.Error != "" {
		return false, fmt.Errorf("%q, %w", reply.Error, err)
	}
	fs := reply.FileSystem
	root := append(fs.DirectoryInode.EntryList, fs.EntryList...)
	if fs.NumRegularInodes != 1 || fs.TotalDataBytes != uint64(len("old")) || fs.DirectoryCount != 2 || len(root) != 1 || root[0].Name != "etc" {
		return false, fmt.Errorf("file system %+v", fs)
	}
	return true, nil
}
