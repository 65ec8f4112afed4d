// Package bolt keeps the control plane's state in one bbolt file. It is the default store of a single daemon.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

const (
	entriesBucket = "entries"
	metaBucket    = "meta"
	revisionKey   = "revision"
	// lockWait is long enough for a predecessor that is just ending, and short enough for a clear message at a prompt.
	lockWait = 2 * time.Second
)

var _ store.Store = (*Store)(nil)

// Store is a store in a bbolt file.
type Store struct {
	db      *bbolt.DB
	hub     *hub
	commits *committer
}

// Open opens the file, or makes it with mode 0600. A file that another process has open is FailedPrecondition.
func Open(path string) (*Store, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fault.New(fault.FailedPrecondition,
			"state file %s is in use by another process; stop the other daemon or choose another --state-dir", path)
	}
	if err != nil {
		return nil, fault.Wrap(err, "state file %s", path)
	}
	s := &Store{db: db}
	var revision uint64
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists([]byte(entriesBucket)); err != nil {
			return err
		}
		meta, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return err
		}
		revision = decodeRevision(meta.Get([]byte(revisionKey)))
		return nil
	})
	if err != nil {
		return nil, errors.Join(fault.Wrap(err, "state file %s", path), db.Close())
	}
	s.hub = newHub(revision)
	s.commits = newCommitter(db, s.hub)
	return s, nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.View(func(tx *bbolt.Tx) error { return fn(reader{tx.Bucket([]byte(entriesBucket))}) })
}

// Update implements store.Store. Updates that come while another one is written to the disk are written together.
func (s *Store) Update(ctx context.Context, fn func(store.Writer) error) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return s.commits.do(ctx, fn)
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after uint64) (<-chan []store.Change, error) {
	return s.hub.watch(ctx, prefix, after)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.commits.close()
	s.hub.close()
	return s.db.Close()
}

type reader struct{ bucket *bbolt.Bucket }

func (r reader) Get(key string) (store.Entry, error) {
	raw := r.bucket.Get([]byte(key))
	if raw == nil {
		return store.Entry{}, store.ErrNotFound
	}
	return decodeEntry(key, raw), nil
}

func (r reader) Scan(prefix, after string) iter.Seq[store.Entry] {
	return func(yield func(store.Entry) bool) {
		c := r.bucket.Cursor()
		k, v := c.Seek([]byte(max(prefix, after)))
		for ; k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			if key := string(k); key > after || after == "" {
				if !yield(decodeEntry(key, v)) {
					return
				}
			}
		}
	}
}

type writer struct {
	reader
	revision uint64
	changes  []store.Change
}

func (w *writer) Put(key string, value []byte) error {
	raw := append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(value)), w.revision), value...)
	w.changes = append(w.changes, store.Change{Entry: store.Entry{Key: key, Value: raw[8:], Revision: w.revision}})
	return w.bucket.Put([]byte(key), raw)
}

func (w *writer) PutIf(key string, value []byte, revision uint64) error {
	e, err := w.Get(key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if e.Revision != revision {
		return store.ErrConflict
	}
	return w.Put(key, value)
}

func (w *writer) Delete(key string) error {
	if w.bucket.Get([]byte(key)) == nil {
		return nil
	}
	w.changes = append(w.changes, store.Change{Entry: store.Entry{Key: key, Revision: w.revision}, Deleted: true})
	return w.bucket.Delete([]byte(key))
}

func decodeEntry(key string, raw []byte) store.Entry {
	return store.Entry{Key: key, Value: raw[8:], Revision: decodeRevision(raw)}
}

func decodeRevision(raw []byte) uint64 {
	if len(raw) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(raw)
}
