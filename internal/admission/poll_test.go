package admission

import (
	"context"
	"runtime"
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
