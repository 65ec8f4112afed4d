package vmdk

import (
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
)

// maxCaches bounds the memory for the tables of a disk's extents: each cache may take 8 MiB, and a disk may have thousands of extents.
const maxCaches = 4

// caches holds the tables of the extents that were used last. It is safe for concurrent use.
type caches struct {
	mu   sync.Mutex
	list [maxCaches]cached // the latest first
}

type cached struct {
	owner *grains
	cache *tables.Cache
}

// of returns the cache of an extent's tables.
func (c *caches) of(owner *grains) *tables.Cache {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := 0
	for i < maxCaches-1 && c.list[i].owner != owner {
		i++
	}
	found := c.list[i]
	if found.owner != owner {
		found = cached{owner, tables.New(owner.f)}
	}
	copy(c.list[1:i+1], c.list[:i])
	c.list[0] = found
	return found.cache
}
