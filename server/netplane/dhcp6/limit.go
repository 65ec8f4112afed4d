package dhcp6

import "time"

// A card gets cardBurst answers at once and cardPerSecond in the long run, all cards of a subnet the other two. A guest that behaves needs four a day.
const (
	cardBurst, cardPerSecond = 20, 5
	allBurst, allPerSecond   = 400, 100
)

// limits keep guests from having the host send more than they need. A flood in the name of other cards is bounded by the limit of all.
type limits struct {
	now   func() time.Time
	all   *bucket
	cards map[string]*bucket
}

// bucket holds how many answers are left.
type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) take(now time.Time, burst, perSecond float64) bool {
	b.left = min(burst, b.left+now.Sub(b.at).Seconds()*perSecond)
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// allow says whether a known card may be answered.
func (l *limits) allow(mac string) bool {
	now := l.now()
	if l.all == nil {
		l.all = &bucket{left: allBurst, at: now}
	}
	b := l.cards[mac]
	if b == nil {
		l.sweep(now)
		b = &bucket{left: cardBurst, at: now}
		l.cards[mac] = b
	}
	return b.take(now, cardBurst, cardPerSecond) && l.all.take(now, allBurst, allPerSecond)
}

// sweep forgets cards that have not asked for long: a full bucket is as good as none.
func (l *limits) sweep(now time.Time) {
	for mac, b := range l.cards {
		if now.Sub(b.at) > cardBurst/cardPerSecond*time.Second {
			delete(l.cards, mac)
		}
	}
}
