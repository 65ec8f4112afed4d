package srpcshim

import "sync"

// Attend implements wire.Talk.
func (t *talk) Attend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watcher != nil || t.broken != nil || t.until(true) != nil {
		return
	}
	t.watcher = new(sync.WaitGroup)
	t.watcher.Go(func() {
		if _, err := t.in.Peek(1); t.lost(err) {
			t.cancel()
		}
	})
}

// unwatch ends what Attend began. What was seen of what the client says next stays in the buffer.
func (t *talk) unwatch() error {
	if t.watcher == nil {
		return nil
	}
	err := t.life.conn.SetReadDeadline(longAgo())
	t.watcher.Wait()
	t.watcher = nil
	return err
}
