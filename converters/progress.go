package converters

import (
	"context"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Progress is how far a copy is, in bytes.
type Progress struct {
	// Virtual of VirtualSize bytes of the disk are done; Data of them were content rather than holes.
	Virtual, VirtualSize int64
	Data                 int64
	// Read was read of the source's file or stream, Written to the output, cloned blocks included.
	Read, Written int64
}

const progressInterval = 100 * time.Millisecond

func (c *conversion) progress() Progress {
	return Progress{
		Virtual: c.count.Virtual.Load(), VirtualSize: c.info.VirtualSize, Data: c.count.Data.Load(),
		Read: c.bytesRead(), Written: c.out.total.written.Load(),
	}
}

// bytesRead asks the source; one that does not count has been read as far as the copy asked.
func (c *conversion) bytesRead() int64 {
	var source any = c.src.Reader
	if c.src.Stream != nil {
		source = c.src.Stream
	}
	if m, ok := source.(image.Metered); ok {
		if n := m.BytesRead(); n > 0 {
			return n
		}
	}
	return c.count.Read.Load()
}

// report calls Progress until the returned function is called, which makes the last call and may be called again.
func (c *conversion) report(ctx context.Context) (stop func()) {
	if c.opts.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(progressInterval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				c.opts.Progress(c.progress())
			case <-ctx.Done():
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		c.opts.Progress(c.progress())
	})
}
