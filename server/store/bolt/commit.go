package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// maxGroup is how many updates are committed together at most.
const maxGroup = 256

// committer commits updates that come while another commit goes on together, because the disk takes about as long for many as for one.
type committer struct {
	db      *bbolt.DB
	hub     *hub
	updates chan *update
	closing chan struct{}
	once    sync.Once
	ended   sync.WaitGroup
}

// update is one call of Update.
type update struct {
	fn       func(store.Writer) error
	changes  []store.Change
	revision uint64
	err      error
	done     chan struct{}
}

func newCommitter(db *bbolt.DB, h *hub) *committer {
	c := &committer{db: db, hub: h, updates: make(chan *update), closing: make(chan struct{})}
	c.ended.Go(c.run)
	return c
}

// do commits one update, alone or with others.
func (c *committer) do(ctx context.Context, fn func(store.Writer) error) (uint64, error) {
	u := &update{fn: fn, done: make(chan struct{})}
	select {
	case c.updates <- u:
	case <-c.closing:
		return 0, berrors.ErrDatabaseNotOpen
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	<-u.done // what has begun is not given up: its caller must know what became of it
	return u.revision, u.err
}

func (c *committer) close() {
	c.once.Do(func() { close(c.closing) })
	c.ended.Wait()
}

func (c *committer) run() {
	for {
		select {
		case u := <-c.updates:
			c.commit(c.gather(u))
		case <-c.closing:
			return
		}
	}
}

// gather returns the first update and those that wait behind it.
func (c *committer) gather(first *update) []*update {
	group := []*update{first}
	for len(group) < maxGroup {
		select {
		case u := <-c.updates:
			group = append(group, u)
		default:
			return group
		}
	}
	return group
}

// commit writes a group. An update that fails is taken out, and the others are written anew without it.
func (c *committer) commit(group []*update) {
	// The hub is locked across the commit so that watchers see changes in the order of revisions.
	defer c.hub.lockForCommit()()
	left := slices.Clone(group)
	for len(left) > 0 {
		failed := -1
		err := c.db.Update(func(tx *bbolt.Tx) (err error) {
			failed, err = apply(tx, left)
			return err
		})
		if err == nil {
			break
		}
		if failed >= 0 {
			left[failed].fail(err)
			left = slices.Delete(left, failed, failed+1)
			continue
		}
		for _, u := range left {
			u.fail(err)
		}
		left = nil
	}
	for _, u := range left {
		c.hub.publish(u.revision, u.changes)
	}
	for _, u := range group {
		close(u.done)
	}
}

func (u *update) fail(err error) { u.changes, u.revision, u.err = nil, 0, err }

// apply runs the updates in one transaction, each with a revision of its own, and says which one failed; -1 = the transaction itself.
func apply(tx *bbolt.Tx, group []*update) (failed int, err error) {
	meta := tx.Bucket([]byte(metaBucket))
	revision := decodeRevision(meta.Get([]byte(revisionKey)))
	for i, u := range group {
		w := &writer{reader: reader{tx.Bucket([]byte(entriesBucket))}, revision: revision + 1}
		if err := call(u.fn, w); err != nil {
			return i, err
		}
		if u.changes = w.changes; len(w.changes) > 0 {
			revision = w.revision
		}
		u.revision = revision
	}
	return -1, meta.Put([]byte(revisionKey), binary.BigEndian.AppendUint64(nil, revision))
}

// call runs one update. One that panics must not take down the others.
func call(fn func(store.Writer) error, w store.Writer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "state: an update panicked: %s", fmt.Sprint(p))
		}
	}()
	return fn(w)
}
