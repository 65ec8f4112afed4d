package image

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/monitor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// patchLogSuffix is where the log of a patch is written until the patch has been made.
const patchLogSuffix = ".patch-log"

// patching is one PatchVmImage.
type patching struct {
	*Service
	req    *hypervisorv1.PatchVmImageRequest
	record *hypervisorv1.LocalVmInfo
	image  *hypervisorv1.LocalImage
	disk   hypervisor.Disk // the image's
	root   string
	tell   func(what string) error
}

// PatchVmImage implements ImageService. A copy of the root volume is patched and then takes its place, so a failure changes nothing. The image is on this
// host already, so image_timeout has nothing to limit.
func (s *Service) PatchVmImage(
	req *hypervisorv1.PatchVmImageRequest, stream grpc.ServerStreamingServer[hypervisorv1.PatchVmImageResponse],
) error {
	ctx := stream.Context()
	p := &patching{Service: s, req: req, tell: whileThere(ctx, func(what string) error {
		return stream.Send(&hypervisorv1.PatchVmImageResponse{ProgressMessage: what})
	})}
	if req.GetImageTimeout().AsDuration() < 0 {
		return fault.New(fault.InvalidArgument, "image_timeout: is negative")
	}
	var release func()
	var err error
	if p.record, release, err = s.Operations.Acquire(ctx, req.GetVm()); err != nil {
		return err
	}
	done, err := p.open(ctx)
	if err != nil {
		release()
		return fault.Wrap(err, "vm %s", vm.Name(p.record.GetVmInfo()))
	}
	r := restart{Service: s, uuid: p.record.GetVmInfo().GetUuid(), was: running(p.record), tell: p.tell}
	err = s.Operations.Finish(ctx, func(lasting context.Context) error {
		defer release()
		defer done()
		// The client's end stops the patch, but not the start that follows.
		_, err := r.around(lasting, func() error { return p.run(ctx, lasting) })
		return errors.Join(err, remove(newFile(p.root), p.root+patchLogSuffix))
	})
	if err != nil {
		return fault.Wrap(err, "vm %s", vm.Name(p.record.GetVmInfo()))
	}
	return stream.Send(&hypervisorv1.PatchVmImageResponse{Final: true})
}

// open checks what can be checked before the VM is stopped. done gives the image back.
func (p *patching) open(ctx context.Context) (done func(), err error) {
	err = vm.Require(p.record.GetVmInfo(), "be patched", hypervisorv1.State_STATE_STOPPED, hypervisorv1.State_STATE_RUNNING)
	if err != nil {
		return nil, err
	}
	if p.root, err = root(p.record); err != nil {
		return nil, err
	}
	p.image, p.disk.File, done, err = p.Images.Open(ctx, p.req.GetImageName())
	if err != nil {
		return nil, err
	}
	if len(p.image.GetFilterLines()) == 0 {
		done()
		return nil, fault.New(fault.FailedPrecondition,
			"image %q: has no filter_lines, so the VM's own files would be lost; add it with them, or use ReplaceVmImage", p.req.GetImageName())
	}
	return done, nil
}

// run patches a copy as long as the client is there, and swaps it in.
func (p *patching) run(client, lasting context.Context) error {
	info := p.record.GetVmInfo()
	if err := p.tell("copying root"); err != nil {
		return err
	}
	if _, err := p.Volumes.Duplicate(client, p.root, newFile(p.root)); err != nil {
		return err
	}
	if err := p.patch(client); err != nil {
		return err
	}
	if err := client.Err(); err != nil {
		return err
	}
	v := info.GetVolumes()[0]
	w, err := newSwap(p.record, p.root, !p.req.GetSkipBackup(), &hypervisorv1.VmInfo{
		ImageName: p.req.GetImageName(),
		Volumes:   []*hypervisorv1.Volume{{Format: v.GetFormat(), Size: v.GetSize(), VirtualSize: v.GetVirtualSize()}},
	})
	if err != nil {
		return err
	}
	if err := p.swapRoot(lasting, info.GetUuid(), w); err != nil {
		return err
	}
	dir, err := p.Operations.Directory(info.GetUuid())
	if err != nil {
		return err
	}
	return fault.Wrap(os.Rename(p.root+patchLogSuffix, filepath.Join(dir, monitor.PatchLog)), "patch log")
}

// patch changes the copy and writes the log.
func (p *patching) patch(ctx context.Context) (err error) {
	f, err := os.OpenFile(p.root+patchLogSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fault.Wrap(err, "patch log")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	log := bufio.NewWriter(f)
	if err := p.tell("scanning root"); err != nil {
		return err
	}
	at := guestRoot(p.record, newFile(p.root))
	if err := p.Guests.Patch(ctx, at, p.disk, p.image.GetFilterLines(), log); err != nil {
		return fault.Wrap(err, "image %q", p.req.GetImageName())
	}
	if err := p.tell("updated root"); err != nil {
		return err
	}
	if len(p.req.GetOverlayFiles()) > 0 {
		if err := p.Guests.OverlayRoot(ctx, at, nil, p.req.GetOverlayFiles()); err != nil {
			return fault.Wrap(err, "overlay_files")
		}
	}
	return errors.Join(log.Flush(), f.Sync())
}
