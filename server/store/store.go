// Package store is how the control plane keeps its state: a small ordered key-value interface with transactions, revisions and watch.
//
// Package bolt is the embedded default; a cluster store implements the same interface, and package storetest is the conformance suite for
// both. Keys are paths such as "vms/<uuid>"; values are opaque here. What a value means is the business of the package that owns the prefix.
package store

import (
	"context"
	"errors"
	"iter"
)

// ErrNotFound says that a key does not exist.
var ErrNotFound = errors.New("key not found")

// ErrConflict says that a key's revision is not the one that PutIf or DeleteIf expected.
var ErrConflict = errors.New("key was changed by somebody else")

// ErrCompacted says that the changes after a revision are no longer known; read everything again.
var ErrCompacted = errors.New("changes since that revision are no longer known")

// Entry is a key with its value. Value must not be changed and is good only until the transaction ends.
type Entry struct {
	Key   string
	Value []byte
	// Revision is that of the transaction that last wrote the key. Revisions only grow, over the whole store.
	Revision uint64
}

// Change is a key's latest state as a watcher sees it.
type Change struct {
	Entry
	Deleted bool
}

// Store keeps entries. All methods may be called from several goroutines at once.
type Store interface {
	// View runs fn on a consistent state. fn must not keep the transaction.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn and makes its changes permanent, all or none; they are on stable storage when Update returns. It returns the new
	// revision, or the old one if fn wrote nothing. fn may be run again, so it must have no effect but on the transaction.
	Update(ctx context.Context, fn func(Writer) error) (uint64, error)
	// Watch sends every change of keys with the prefix after the given revision (0 = from now on) until ctx ends; then the channel is closed.
	// A slow reader gets the latest change of each key, in order of revision, never a gap. ErrCompacted if the changes are no longer known.
	Watch(ctx context.Context, prefix string, after uint64) (<-chan []Change, error)
	// Close ends the store. Watches end.
	Close() error
}

// Reader reads a consistent state.
type Reader interface {
	// Get returns an entry, or ErrNotFound.
	Get(key string) (Entry, error)
	// Scan yields the entries with the prefix whose keys are greater than after, in order of key.
	Scan(prefix, after string) iter.Seq[Entry]
}

// Writer also writes. Later reads in the same transaction see the writes.
type Writer interface {
	Reader
	// Put writes an entry.
	Put(key string, value []byte) error
	// PutIf writes an entry if its revision is still the given one (0 = the key does not exist); otherwise ErrConflict.
	PutIf(key string, value []byte, revision uint64) error
	// Delete removes an entry; a missing one is no error.
	Delete(key string) error
}
