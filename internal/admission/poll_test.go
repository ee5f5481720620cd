package admission

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// watched runs a lookout until stop is called.
func watched(t *testing.T) (l *lookout, stop func()) {
	t.Helper()
	l = &lookout{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.watch(ctx) }()
	for begun := time.Now(); ; runtime.Gosched() {
		l.mu.Lock()
		ready := l.in != nil
		l.mu.Unlock()
		if ready {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatal("it does not begin")
		}
	}
	return l, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func waiting(n int) (out []*ticket) {
	for range n {
		out = append(out, &ticket{ready: make(chan struct{}, 1), since: time.Now()})
	}
	return out
}

// TestTheNetworkIsLookedAtBetweenRequests: of many that were let in together
// one for each CPU runs at a time, and all come to it.
func TestTheNetworkIsLookedAtBetweenRequests(t *testing.T) {
	t.Parallel()
	l, stop := watched(t)
	defer stop()
	all, began := waiting(100), time.Now()
	for _, one := range all {
		l.wake(one, turn)
	}
	for i, one := range all {
		select {
		case <-one.ready:
		case <-time.After(30 * time.Second):
			t.Fatalf("request %d is never woken", i)
		}
		l.mu.Lock()
		woken, most := l.woken, runtime.GOMAXPROCS(0)*(1+int(time.Since(began)/perTurn))
		l.mu.Unlock()
		if woken < 1 || woken > most {
			t.Errorf("%d were woken together, want 1 to %d", woken, most)
		}
		l.next()
	}
	if behind := l.behind(time.Now()); l.woken != 0 || behind != 0 {
		t.Errorf("%d woken and the first of the others %s behind, when all had their turn", l.woken, behind)
	}
}

// TestQuickRequestsShareATurn: those of which many are served in a millisecond
// need not wait for a look at the network each.
func TestQuickRequestsShareATurn(t *testing.T) {
	t.Parallel()
	l, stop := watched(t)
	defer stop()
	all := waiting(100)
	l.mu.Lock() // so that they come together
	for _, one := range all[:99] {
		l.waiting.push(one)
	}
	l.mu.Unlock()
	l.wake(all[99], turn/100)
	for i, one := range all {
		select {
		case <-one.ready:
		case <-time.After(30 * time.Second):
			t.Fatalf("request %d is not woken although none called next", i)
		}
	}
}

// TestNobodyIsForgottenAtTheEnd stops while requests wait; those that come
// later are woken at once.
func TestNobodyIsForgottenAtTheEnd(t *testing.T) {
	t.Parallel()
	l, stop := watched(t)
	all := waiting(100)
	for _, one := range all {
		l.wake(one, turn) // and none calls next
	}
	if behind := l.behind(time.Now().Add(time.Minute)); behind < time.Minute {
		t.Errorf("the first of those that wait is %s behind, want a minute", behind)
	}
	stop()
	late := waiting(1)
	l.wake(late[0], turn)
	for i, one := range append(all, late...) {
		select {
		case <-one.ready:
		default:
			t.Errorf("request %d is not woken", i)
		}
	}
}

// TestEveryoneIsWoken sends many requests that compute through a limiter whose
// lookout runs. Some give up while they wait; nothing of them is left.
func TestEveryoneIsWoken(t *testing.T) {
	t.Parallel()
	l := newLimiter(64, 10*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.lookout.watch(ctx) }()
	var clients sync.WaitGroup
	var served, refused atomic.Int64
	for i := range 30 {
		clients.Go(func() {
			for j := range 20 {
				with, giveUp := context.WithCancel(t.Context())
				if (i+j)%7 == 0 {
					go giveUp()
				}
				place := l.acquire(with, Read)
				if place == nil {
					if with.Err() == nil {
						refused.Add(1)
					}
					giveUp()
					continue
				}
				for began := time.Now(); time.Since(began) < 400*time.Microsecond; {
				}
				l.release(place)
				served.Add(1)
				giveUp()
			}
		})
	}
	clients.Wait()
	if s := l.state(); s.inFlight != 0 || s.queued != 0 || refused.Load() > 0 || served.Load() < 500 {
		t.Errorf("%+v; %d served of 600, %d refused", s, served.Load(), refused.Load())
	}
	l.lookout.mu.Lock()
	woken, left, used := l.lookout.woken, l.lookout.waiting.len(), l.lookout.atOnce > 0
	l.lookout.mu.Unlock()
	if woken != 0 || left != 0 || !used {
		t.Errorf("%d woken, %d left in the lookout (used: %v)", woken, left, used)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
