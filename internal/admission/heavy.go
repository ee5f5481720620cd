package admission

import (
	"context"
	"sync"
	"time"
)

// MaxHeavy is how many requests of class Batch one user has running at once.
const MaxHeavy = 4

const (
	maxHeavyWaiting = 32 // of one user
	heavyPatience   = 2 * time.Second
)

// heavy bounds the requests of each user that cost much. It remembers only
// those users that have some running or waiting. Its methods are safe for
// concurrent use.
type heavy struct {
	mu    sync.Mutex
	users map[string]*heavyUser
}

type heavyUser struct {
	known  int           // requests that run or wait
	places chan struct{} // of those that run
}

func newHeavy() *heavy { return &heavy{users: map[string]*heavyUser{}} }

// take waits for one of the places of who, a moment and in bounded number. It
// returns how to give the place back, or nil when there is none.
func (h *heavy) take(ctx context.Context, who string) (done func()) {
	h.mu.Lock()
	u := h.users[who]
	if u == nil {
		u = &heavyUser{places: make(chan struct{}, MaxHeavy)}
		h.users[who] = u
	}
	if u.known >= MaxHeavy+maxHeavyWaiting {
		h.mu.Unlock()
		return nil
	}
	u.known++
	h.mu.Unlock()
	leave := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if u.known--; u.known == 0 {
			delete(h.users, who)
		}
	}
	timer := time.NewTimer(heavyPatience)
	defer timer.Stop()
	select {
	case u.places <- struct{}{}:
		return func() { <-u.places; leave() }
	case <-timer.C:
	case <-ctx.Done():
	}
	leave()
	return nil
}
