package auth

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// What failed attempts of one address are bounded to.
const (
	failuresAtOnce = 10
	failureEvery   = 6 * time.Second // one more may fail after this
	throttlePlaces = 4096
)

// throttle counts failed attempts. Addresses share a fixed number of places,
// so that its memory is bounded and no flood of addresses makes it forget one;
// what two addresses at the same place cost each other is a delay.
type throttle struct {
	seed maphash.Seed

	mu     sync.Mutex
	places [throttlePlaces]failures
}

type failures struct {
	count float64
	last  time.Time
}

func newThrottle() *throttle { return &throttle{seed: maphash.MakeSeed()} }

// place returns where an address is counted. t.mu is held.
func (t *throttle) place(address string, now time.Time) *failures {
	if ip, err := netip.ParseAddr(address); err == nil && ip.Unmap().Is6() { // one subscriber has a whole /64
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			address = p.String()
		}
	}
	f := &t.places[maphash.String(t.seed, address)%throttlePlaces]
	if passed := now.Sub(f.last); passed > 0 {
		f.count = max(0, f.count-passed.Seconds()/failureEvery.Seconds())
	}
	f.last = now
	return f
}

// wait returns how long an address has to wait before it may try again, 0 for
// not at all.
func (t *throttle) wait(address string, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if over := t.place(address, now).count - (failuresAtOnce - 1); over > 0 {
		return time.Duration(over * float64(failureEvery))
	}
	return 0
}

// failed counts a failed attempt.
func (t *throttle) failed(address string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.place(address, now).count++
}
