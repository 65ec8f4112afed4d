package vsphere

import "time"

// Option changes a time that Open would choose itself. Tests use them; the defaults suit vCenter.
type Option func(*tuning)

type tuning struct {
	progressEvery  time.Duration
	keepAliveEvery time.Duration
	pollEvery      time.Duration
	leaseWait      time.Duration
	cleanup        time.Duration
	stall          time.Duration
	pageSize       int32
}

func defaultTuning() tuning {
	return tuning{
		progressEvery:  10 * time.Second,
		keepAliveEvery: 5 * time.Minute,
		pollEvery:      time.Second,
		leaseWait:      10 * time.Minute,
		cleanup:        30 * time.Minute,
		stall:          5 * time.Minute,
		pageSize:       500,
	}
}

// WithProgressInterval sets how often a lease is renewed. It is shortened to a quarter of the time-out that the lease states.
func WithProgressInterval(d time.Duration) Option { return func(t *tuning) { t.progressEvery = d } }

// WithKeepAlive sets how often an otherwise idle session is used.
func WithKeepAlive(d time.Duration) Option { return func(t *tuning) { t.keepAliveEvery = d } }

// WithPollInterval sets the longest time between two looks at a task or a lease that is waited for.
func WithPollInterval(d time.Duration) Option { return func(t *tuning) { t.pollEvery = d } }

// WithLeaseWait sets how long a lease may take to become ready.
func WithLeaseWait(d time.Duration) Option { return func(t *tuning) { t.leaseWait = d } }

// WithCleanupTimeout sets how long ending a lease and removing a snapshot may take together.
func WithCleanupTimeout(d time.Duration) Option { return func(t *tuning) { t.cleanup = d } }

// WithStallTimeout sets how long a read of a disk may wait for the next byte.
func WithStallTimeout(d time.Duration) Option { return func(t *tuning) { t.stall = d } }

// WithPageSize sets how many objects one answer of the inventory may hold.
func WithPageSize(n int32) Option { return func(t *tuning) { t.pageSize = n } }
