package image

import (
	"context"
	"errors"
	"io"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// maxRoundup is the largest roundup_power: sizes are below 2^63.
const maxRoundup = 62

// fetching makes a volume from what a request says.
type fetching struct {
	*Service
	source *hypervisorv1.ImageSource
	data   *pieces.Reader
	tell   func(what string) error
}

func (f *fetching) check() error {
	s := f.source
	switch {
	case s.GetImageName() == "" && s.GetImageDataSize() == 0 && s.GetImageUrl() == "":
		return fault.New(fault.InvalidArgument, "source: give image_name, image_url, or image_data_size with image_data")
	case s.GetRoundupPower() > maxRoundup:
		return fault.New(fault.InvalidArgument, "source.roundup_power: %d is more than %d", s.GetRoundupPower(), maxRoundup)
	case s.GetImageTimeout().AsDuration() < 0:
		return fault.New(fault.InvalidArgument, "source.image_timeout: is negative")
	}
	return nil
}

// names returns the record's words for where the volume comes from.
func (f *fetching) names() (name, url string) {
	switch s := f.source; {
	case s.GetImageName() != "":
		return s.GetImageName(), ""
	case s.GetImageDataSize() > 0:
		return "", ""
	default:
		return "", s.GetImageUrl()
	}
}

// volume makes the file and returns the volume's size in bytes. A failed call leaves nothing.
func (f *fetching) volume(ctx context.Context, file string, format hypervisorv1.VolumeFormat) (uint64, error) {
	size, err := f.get(ctx, vm.VolumeSpec{
		File: file, Format: format, MinimumFree: f.source.GetMinimumFreeBytes(), RoundupPower: f.source.GetRoundupPower(),
	})
	if err != nil {
		return 0, err
	}
	if err := f.fill(ctx, hypervisor.Disk{File: file, Format: diskFormat(format)}); err != nil {
		return 0, errors.Join(err, remove(file))
	}
	return size, nil
}

func (f *fetching) get(ctx context.Context, v vm.VolumeSpec) (uint64, error) {
	if limit := f.source.GetImageTimeout().AsDuration(); limit > 0 {
		timed, cancel := context.WithTimeoutCause(ctx, limit, fault.New(fault.DeadlineExceeded, "image: did not arrive within image_timeout, %s", limit))
		defer cancel()
		size, err := f.from(timed, v)
		if err != nil && timed.Err() != nil {
			err = errors.Join(context.Cause(timed), err)
		}
		return size, err
	}
	return f.from(ctx, v)
}

func (f *fetching) from(ctx context.Context, v vm.VolumeSpec) (uint64, error) {
	name, url := f.names()
	switch {
	case name != "":
		if err := f.tell("unpacking image: " + name); err != nil {
			return 0, err
		}
		return f.Volumes.FromImage(ctx, name, v)
	case url != "":
		if err := f.tell("getting image"); err != nil {
			return 0, err
		}
		return f.Volumes.FromURL(ctx, url, v)
	}
	if err := f.tell("getting image"); err != nil {
		return 0, err
	}
	want := f.source.GetImageDataSize()
	size, err := f.Volumes.FromReader(ctx, f.data, want, v)
	if err == nil && f.data.Buffered() > 0 {
		err = errors.Join(fault.New(fault.InvalidArgument, "image_data: is longer than the %d bytes that image_data_size announced", want), remove(v.File))
	}
	return size, err
}

// fill makes the room for the guest to use, and writes overlay files.
func (f *fetching) fill(ctx context.Context, d hypervisor.Disk) error {
	if f.source.GetMinimumFreeBytes() > 0 {
		if err := f.Guests.GrowFilesystem(ctx, d); err != nil {
			return fault.Wrap(err, "source.minimum_free_bytes")
		}
	}
	if len(f.source.GetOverlayFiles()) == 0 {
		return nil
	}
	if err := f.tell("writing overlay files"); err != nil {
		return err
	}
	return fault.Wrap(f.Guests.Overlay(ctx, d, nil, f.source.GetOverlayFiles()), "source.overlay_files")
}

// restart is a VM that is stopped for a change and started again.
type restart struct {
	*Service
	uuid string
	was  bool // it was running
	dhcp time.Duration
	tell func(what string) error
}

// around stops the VM if it runs, makes the change, and starts the VM again, whether the change was made or not.
func (r restart) around(ctx context.Context, change func() error) (timedOut bool, err error) {
	if !r.was {
		return false, change()
	}
	_ = r.tell("stopping VM") // a client that has gone does not see it
	if err := r.Operations.Halt(ctx, r.uuid); err != nil {
		return false, err
	}
	err = change()
	_ = r.tell("starting VM")
	timedOut, startErr := r.Operations.Resume(ctx, r.uuid, r.dhcp)
	if err == nil {
		return timedOut, fault.Wrap(startErr, "the root volume was changed, but the VM could not be started again")
	}
	return false, errors.Join(err, startErr)
}

// firstOf reads the first message of a stream.
func firstOf[M any](recv func() (M, error)) (M, error) {
	m, err := recv()
	if errors.Is(err, io.EOF) {
		return m, fault.New(fault.InvalidArgument, "vm, source: are missing; send them in the first message")
	}
	return m, err
}

// whileThere sends as long as the client is there: an operation may go on after the method has returned.
func whileThere(ctx context.Context, send func(what string) error) func(what string) error {
	return func(what string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return send(what)
	}
}
