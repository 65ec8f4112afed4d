package metadata

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// EC2's second version of the interface (IMDSv2): a token that whoever can only make a guest GET something can not have.
const (
	tokenPath      = "/latest/api/token"                    //nolint:gosec // a path
	tokenHeader    = "X-aws-ec2-metadata-token"             //nolint:gosec // a header
	tokenTTLHeader = "X-aws-ec2-metadata-token-ttl-seconds" //nolint:gosec // a header
	maxTokenTTL    = 21600
)

// tokens makes and checks tokens. They need no memory: a token is its end and a MAC over end and VM.
type tokens struct {
	now func() time.Time
	key [32]byte
}

func (t *tokens) give(w http.ResponseWriter, r *http.Request, uuid string) {
	ttl, err := strconv.Atoi(r.Header.Get(tokenTTLHeader))
	switch {
	case r.Method != http.MethodPut:
		w.Header().Set("Allow", "PUT")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	case err != nil || ttl < 1 || ttl > maxTokenTTL:
		http.Error(w, fmt.Sprintf("%s: must be 1 to %d", tokenTTLHeader, maxTokenTTL), http.StatusBadRequest)
	default:
		w.Header().Set(tokenTTLHeader, strconv.Itoa(ttl))
		_, _ = w.Write([]byte(t.sign(t.now().Add(time.Duration(ttl)*time.Second).Unix(), uuid))) // a guest that has gone asks again
	}
}

func (t *tokens) sign(until int64, uuid string) string {
	end := binary.BigEndian.AppendUint64(nil, uint64(until))
	m := hmac.New(sha256.New, t.key[:])
	_, _ = m.Write(append(end, uuid...)) // never fails
	return base64.RawURLEncoding.EncodeToString(m.Sum(end))
}

func (t *tokens) valid(token, uuid string) bool {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != 8+sha256.Size {
		return false
	}
	until := int64(binary.BigEndian.Uint64(raw))
	return hmac.Equal([]byte(token), []byte(t.sign(until, uuid))) && t.now().Unix() < until
}

// A VM may ask burst times at once, and perSecond times in the long run.
const (
	perSecond = 50
	burst     = 200
)

// limits keeps guests from asking more than they need.
type limits struct {
	now     func() time.Time
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func (l *limits) allow(uuid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	b := l.buckets[uuid]
	if b == nil {
		l.sweep(now)
		b = &bucket{left: burst, at: now}
		l.buckets[uuid] = b
	}
	b.left = min(burst, b.left+now.Sub(b.at).Seconds()*perSecond)
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// sweep forgets VMs that have not asked for long; a bucket that is full again is as good as none.
func (l *limits) sweep(now time.Time) {
	for uuid, b := range l.buckets {
		if now.Sub(b.at) > burst/perSecond*time.Second {
			delete(l.buckets, uuid)
		}
	}
}
