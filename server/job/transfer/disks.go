package transfer

import (
	"context"
	"crypto/sha1" //nolint:gosec // vCenters of some versions give no other digest to compare with
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// retryPause is the pause before a disk's second attempt; each further one is twice as long.
const retryPause = 500 * time.Millisecond

// disks brings all disks into the staging folder and returns their files in the VM's order.
func (r *run) disks(ctx context.Context, vm driver.VM) ([]File, error) {
	m := newMeter(r.hooks, vm.Disks)
	files := make([]File, len(vm.Disks))
	g, gctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, max(1, r.plan.Parallel))
	results := make(chan File, len(vm.Disks)) // a worker does not wait for the collector
	for i, d := range vm.Disks {
		if done, ok := r.complete(d); ok {
			r.hooks.Log(slog.LevelInfo, "%s: complete since an earlier run", d.Label)
			files[i] = done
			m.disk(i).finish()
			continue
		}
		g.Go(func() error {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-gctx.Done():
				return gctx.Err()
			}
			f, err := r.disk(gctx, vm, i, m.disk(i))
			if err != nil {
				return fault.Wrap(err, "%s", d.Label)
			}
			results <- f
			return nil
		})
	}
	return files, r.collect(ctx, g, results, files, vm)
}

// collect notes each finished disk before the next one, so that a later run need not read it again.
func (r *run) collect(ctx context.Context, g *errgroup.Group, results chan File, files []File, vm driver.VM) error {
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	for {
		select {
		case f := <-results:
			r.note(ctx, f, files, vm)
		case err := <-ended:
			for len(results) > 0 {
				r.note(ctx, <-results, files, vm)
			}
			return err
		}
	}
}

// note puts a finished disk into its place and into the state.
func (r *run) note(ctx context.Context, f File, files []File, vm driver.VM) {
	for i, d := range vm.Disks {
		if d.ID == f.DiskID {
			files[i] = f
		}
	}
	if r.state.Disks == nil {
		r.state.Disks = make(map[string]File)
	}
	r.state.Disks[f.DiskID] = f
	if err := r.hooks.Save(context.WithoutCancel(ctx), r.state); err != nil {
		r.hooks.Log(slog.LevelWarn, "progress not kept: %v", err)
	}
}

// complete returns the file of a disk that an earlier run finished and that is still as it left it.
func (r *run) complete(d driver.DiskInfo) (File, bool) {
	f, ok := r.state.Disks[d.ID]
	if !ok {
		return f, false
	}
	st, err := os.Stat(filepath.Join(r.state.Stage, f.Name))
	return f, err == nil && st.Size() == f.Size
}

// disk brings one disk here, and begins again if the connection to the source fails.
func (r *run) disk(ctx context.Context, vm driver.VM, i int, m *diskMeter) (File, error) {
	pause := retryPause
	for attempt := 1; ; attempt++ {
		f, err := r.attempt(ctx, vm, i, m)
		if err == nil || ctx.Err() != nil || attempt >= r.plan.Attempts || !transient(err) {
			return f, err
		}
		r.hooks.Log(slog.LevelWarn, "%s: attempt %d of %d failed: %v", vm.Disks[i].Label, attempt, r.plan.Attempts, err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return File{}, ctx.Err()
		}
		pause *= 2
	}
}

// transient says whether another attempt may go better: the connection or the lease was lost, or the bytes arrived damaged.
func transient(err error) bool {
	switch fault.CodeOf(err) {
	case fault.Unavailable, fault.Aborted, fault.DataLoss, fault.DeadlineExceeded:
		return true
	default:
		return false
	}
}

// attempt reads a disk once, from its beginning to its end.
func (r *run) attempt(ctx context.Context, vm driver.VM, i int, m *diskMeter) (File, error) {
	d := vm.Disks[i]
	m.begin(fileName(vm, i, r.plan.Format))
	content, err := r.view.OpenDisk(ctx, d.ID)
	if err != nil {
		return File{}, err
	}
	sums := newSums(content.Digests[:min(1, len(content.Digests))]) // the best one; more would only cost time
	f := File{Name: fileName(vm, i, r.plan.Format), Format: r.plan.Format, DiskID: d.ID, Capacity: d.Capacity}
	result, err := r.receive(ctx, content, sums, d, f.Name, m)
	if err != nil {
		return f, err
	}
	if content.Stream != nil {
		if f.Verified, err = r.view.Verify(ctx, d.ID, sums.hex()); err != nil {
			return f, err
		}
	}
	if !r.plan.NoContentHash {
		f.ContentSHA256 = hex.EncodeToString(result.SHA256[:])
	}
	st, err := os.Stat(filepath.Join(r.state.Stage, f.Name))
	if err != nil {
		return f, fault.Wrap(err, "output")
	}
	f.Size = st.Size()
	m.finish()
	return f, nil
}

// receive converts the content into the staging folder and closes it.
func (r *run) receive(
	ctx context.Context, content driver.Content, sums sums, d driver.DiskInfo, name string, m *diskMeter,
) (result converters.Result, err error) {
	if content.Stream == nil {
		defer func() { err = errors.Join(err, content.Reader.Close()) }()
		return r.convert(ctx, converters.Source{Reader: content.Reader}, name, m)
	}
	defer func() { err = errors.Join(err, content.Stream.Close()) }()
	in := &received{r: content.Stream, sums: sums}
	result, err = r.receiveStream(ctx, content, in, d, name, m)
	if err != nil && in.err != nil && ctx.Err() == nil {
		return result, in.err // the image's complaint that it ends early is only the consequence
	}
	return result, err
}

func (r *run) receiveStream(
	ctx context.Context, content driver.Content, in *received, d driver.DiskInfo, name string, m *diskMeter,
) (result converters.Result, err error) {
	stream, err := r.plan.Formats.OpenStream(content.Format, in, content.StreamSize)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	if size := stream.Info().VirtualSize; size != d.Capacity {
		return result, fault.New(fault.DataLoss, "the source sends a disk of %d bytes, but says that it has %d", size, d.Capacity)
	}
	if result, err = r.convert(ctx, converters.Source{Stream: stream}, name, m); err != nil {
		return result, err
	}
	// The digests of the source are over all it sends, also over what may follow the image's end mark.
	_, err = io.Copy(io.Discard, in)
	return result, err
}

// convert writes the disk into the staging folder. A file of an earlier attempt is replaced.
func (r *run) convert(ctx context.Context, src converters.Source, name string, m *diskMeter) (result converters.Result, err error) {
	path := filepath.Join(r.state.Stage, name)
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return result, fault.Wrap(err, "output")
	}
	target := converters.Target{Format: r.plan.Format, Out: out, Name: name}
	if r.plan.Compress && r.plan.Format == "qcow2" {
		target.Compression = "zlib"
	}
	result, err = r.plan.Formats.Convert(ctx, src, target, converters.Options{SHA256: !r.plan.NoContentHash, Progress: m.progress})
	if err == nil {
		err = fault.Wrap(out.Sync(), "output %s", path)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return result, errors.Join(err, os.Remove(path))
	}
	return result, nil
}

// fileName is the name of a disk's file: the VM's name, made fit, the disk's number and the format.
func fileName(vm driver.VM, i int, format string) string {
	return fmt.Sprintf("%s-disk%s.%s", safeName(vm.Name), strconv.Itoa(i+1), format)
}

// sums are the digests of the bytes that the source sends.
type sums map[string]hash.Hash

// newSums makes those that the source can be asked to compare.
func newSums(names []string) sums {
	s := make(sums)
	for _, n := range names {
		switch n {
		case "sha1":
			s[n] = sha1.New() //nolint:gosec // as above
		case "sha256":
			s[n] = sha256.New()
		}
	}
	return s
}

func (s sums) Write(p []byte) (int, error) {
	for _, h := range s {
		_, _ = h.Write(p) // never fails
	}
	return len(p), nil
}

func (s sums) hex() map[string]string {
	m := make(map[string]string, len(s))
	for n, h := range s {
		m[n] = hex.EncodeToString(h.Sum(nil))
	}
	return m
}

// received is what comes from the source: the digests see it, and the reason of its end is kept.
type received struct {
	r    io.Reader
	sums sums
	err  error // why reading failed; nil while it has not
}

func (d *received) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	_, _ = d.sums.Write(p[:n])       // never fails
	if err != nil && err != io.EOF { // a wrapped io.EOF is a failure of the source
		d.err = err
	}
	return n, err
}
