package admission

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// rates holds a token bucket for each client. It remembers a bounded number of
// them; those that ask most often stay, so that a flood of other addresses
// gives nobody a new bucket.
type rates[K comparable] struct {
	policy  string // name of the policy, for the fields of answers
	buckets *otter.Cache[K, *bucket]
}

// bucket is one client's.
type bucket struct {
	limit  *rate.Limiter
	rate   Rate
	policy []string // the RateLimit-Policy field; shared by answers and never changed
}

func newRates[K comparable](policy string, most int) *rates[K] {
	return &rates[K]{policy: policy, buckets: otter.Must(&otter.Options[K, *bucket]{MaximumSize: most})}
}

// take takes a token from key's bucket, which is made with r, and tells of it
// in the answer's fields. It returns how long to wait when there is none.
func (s *rates[K]) take(h http.Header, key K, r Rate, now time.Time) (wait time.Duration, ok bool) {
	b, found := s.buckets.GetIfPresent(key)
	if !found {
		window := max(1, int(math.Ceil(float64(r.Burst)/r.PerSecond)))
		fresh := &bucket{limit: rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst), rate: r,
			policy: []string{`"` + s.policy + `";q=` + strconv.Itoa(r.Burst) + `;w=` + strconv.Itoa(window)}}
		b, _ = s.buckets.SetIfAbsent(key, fresh)
		if b == nil {
			b = fresh
		}
	}
	ok = b.limit.AllowN(now, 1)
	left := max(0, b.limit.TokensAt(now))
	full := int(math.Ceil((float64(b.rate.Burst) - left) / b.rate.PerSecond))
	if others := h["Ratelimit-Policy"]; others == nil {
		h["Ratelimit-Policy"] = b.policy
	} else {
		h["Ratelimit-Policy"] = append(others[:len(others):len(others)], b.policy...)
	}
	var room [64]byte
	field := append(append(append(room[:0], '"'), s.policy...), `";r=`...)
	field = append(strconv.AppendInt(field, int64(left), 10), ";t="...)
	h["Ratelimit"] = append(h["Ratelimit"], string(strconv.AppendInt(field, int64(full), 10)))
	if !ok {
		wait = time.Duration((1 - left) / b.rate.PerSecond * float64(time.Second))
	}
	return wait, ok
}

// clientKey is whose bucket it is. What people do in trouble has one of its
// own, so that a page that polls too much does not keep them from it.
type clientKey struct {
	network netip.Prefix
	control bool
}
