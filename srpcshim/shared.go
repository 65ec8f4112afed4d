package srpcshim

import (
	"slices"
	"sync"
)

const (
	// maxShared and maxSharedBytes bound what is kept of messages that many calls say. A call that is further behind has its own encoded.
	maxShared      = 64
	maxSharedBytes = 16 << 20
)

// shared is what several calls said last, oldest first.
type shared struct {
	mu   sync.Mutex
	said []*said
}

type sharedKey struct {
	encoding encoding
	key      any
}

// said is a message that is encoded once.
type said struct {
	key   sharedKey
	size  int // of value once it is known; held by shared's lock
	once  sync.Once
	like  any
	value []byte
	err   error
}

// get returns a message, which build makes if no other call has.
func (s *shared) get(key sharedKey, build func() (like any, value []byte, err error)) (*said, error) {
	m := s.find(key)
	m.once.Do(func() {
		m.like, m.value, m.err = build()
		s.account(m, len(m.value))
	})
	return m, m.err
}

// account notes the size of a message and forgets the oldest ones if there is too much.
func (s *shared) account(m *said, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.size = size
	total := 0
	for i, one := range slices.Backward(s.said) {
		if total += one.size; total > maxSharedBytes {
			s.said = slices.Clone(s.said[i+1:])
			return
		}
	}
}

func (s *shared) find(key sharedKey) *said {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range slices.Backward(s.said) {
		if m.key == key {
			return m
		}
	}
	m := &said{key: key}
	if len(s.said) == maxShared {
		s.said = slices.Delete(s.said, 0, 1)
	}
	s.said = append(s.said, m)
	return m
}
