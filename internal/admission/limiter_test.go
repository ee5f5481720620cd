package admission

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestClassesYieldInOrder fills the places and the queue of each class: whoever
// is less important is refused at once, whoever is more important is not.
func TestClassesYieldInOrder(t *testing.T) {
	t.Parallel()
	for _, of := range []Class{Batch, Read, UI, Ingest} {
		synctest.Test(t, func(t *testing.T) {
			a := setup(t, Config{})
			h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
			n, free := full(t, a.limiter, of)
			if want := max(1, int(shares[of]*a.limiter.limit)); n != want {
				t.Errorf("%s has %d of %.0f places, want %d", of, n, a.limiter.limit, want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var waiting sync.WaitGroup
			for range a.limiter.queues[of].room(time.Now(), firstInterval) {
				waiting.Go(func() { a.limiter.acquire(ctx, of) })
			}
			synctest.Wait()
			for _, c := range []Class{of, Batch, Read, UI, Ingest, Stream, Control, Probe} {
				rec := httptest.NewRecorder()
				began := time.Now()
				h.ServeHTTP(rec, request("/"+c.String(), "192.0.2.1:1"))
				want := http.StatusNoContent
				if c >= of {
					want = http.StatusServiceUnavailable
				}
				if took := time.Since(began); rec.Code != want || took != 0 {
					t.Errorf("%s while %s is full: %d after %s, want %d at once", c, of, rec.Code, took, want)
				}
				if d, err := time.ParseDuration(rec.Header().Get("Retry-After")); want == 503 && (err != nil || d < time.Second || d > 2*time.Second) {
					t.Errorf("Retry-After %q", rec.Header().Get("Retry-After"))
				}
			}
			cancel()
			waiting.Wait()
			free()
			if s := a.limiter.state(); s.inFlight != 0 || s.queued != 0 {
				t.Errorf("places leaked: %+v", s)
			}
		})
	}
}

// TestTheImportantOneGoesFirst lets some wait for one place.
func TestTheImportantOneGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(floorOf(), 10*time.Millisecond) // which does not grow
		_, free := full(t, l, Ingest)
		var order []Class
		var waiting sync.WaitGroup
		for _, c := range []Class{Batch, Read, UI, Ingest} {
			waiting.Go(func() {
				if place := l.acquire(t.Context(), c); place != nil {
					order = append(order, c)
					time.Sleep(time.Millisecond)
					l.release(place)
				}
			})
			synctest.Wait()
		}
		l.mu.Lock()
		l.limit = 1
		l.mu.Unlock()
		free()
		waiting.Wait()
		if !slices.Equal(order, []Class{Ingest, UI, Read, Batch}) {
			t.Errorf("let in: %v", order)
		}
	})
}

// TestAFullQueueIsCut: those that wait when a flood begins are refused soon
// while others go on coming, and served, one after the other, when what has
// come was all, or a few come later.
func TestAFullQueueIsCut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		every time.Duration // one more comes
		cut   bool
	}{
		"a flood": {every: 200 * time.Microsecond, cut: true}, "one each millisecond": {every: time.Millisecond, cut: true},
		"a few": {every: 20 * time.Millisecond}, "a burst": {every: time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(floorOf(), 10*time.Millisecond)
			_, free := full(t, l, Ingest)
			var mu sync.Mutex
			var order []int
			var refused []time.Duration
			var waiting sync.WaitGroup
			room := l.queues[Read].room(time.Now(), l.interval)
			for i := range room {
				waiting.Go(func() {
					began := time.Now()
					place := l.acquire(t.Context(), Read)
					mu.Lock()
					defer mu.Unlock()
					if place == nil {
						refused = append(refused, time.Since(began))
						return
					}
					order = append(order, i)
					l.release(place)
				})
				synctest.Wait()
			}
			for asked := time.Now(); time.Since(asked) < 120*time.Millisecond; time.Sleep(min(test.every, 120*time.Millisecond)) {
				waiting.Go(func() {
					if place := l.acquire(t.Context(), Read); place != nil {
						l.release(place)
					}
				})
				synctest.Wait()
			}
			l.mu.Lock()
			l.floor, l.limit = 1, 1 // one after the other, also when a pulse comes at this moment
			l.mu.Unlock()
			free()
			waiting.Wait()
			if len(order)+len(refused) != room {
				t.Errorf("%s: %d are served and %d refused of %d", name, len(order), len(refused), room)
			}
			for i, n := range order {
				if !test.cut && (n < i-8 || n > i+8) { // two that were let in can change places
					t.Errorf("%s: number %d is served as number %d", name, n, i)
				}
			}
			if want := room - floodRoom(firstInterval); test.cut && (len(refused) < want || quantile(refused, 1) > 100*time.Millisecond) {
				t.Errorf("%s: %d are refused, want %d; the last after %s", name, len(refused), want, quantile(refused, 1))
			}
			if !test.cut && len(refused) > 0 {
				t.Errorf("%s: %d are refused", name, len(refused))
			}
		})
	}
}

// TestThoseThatComeTogetherLookInBetween: of requests that come at once only the
// first runs before the network is looked at.
func TestThoseThatComeTogetherLookInBetween(t *testing.T) {
	t.Parallel()
	const n = 20
	for name, test := range map[string]struct {
		interval time.Duration
		least    int
		most     int
	}{"of milliseconds": {firstInterval, n - 1, n}, "cheap ones": {quick, 0, 0}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(floorOf(), 10*time.Millisecond)
			l.interval, l.floor, l.limit = test.interval, 2*n, 1
			var all, done sync.WaitGroup
			all.Add(n)
			var yields, looked atomic.Int32
			l.yield = func() {
				if yields.Add(1) <= n { // until all are here
					all.Done()
					all.Wait()
				}
			}
			for range n {
				done.Go(func() {
					place := l.acquire(t.Context(), Ingest)
					if place.watched {
						looked.Add(1)
					}
					l.release(place)
				})
			}
			done.Wait()
			if got := int(looked.Load()); got < test.least || got > test.most {
				t.Errorf("%s: %d of %d waited for a look, want %d to %d", name, got, n, test.least, test.most)
			}
		})
	}
}

func TestAWaiterThatLeavesHoldsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(floorOf(), 10*time.Millisecond)
		_, free := full(t, l, Ingest)
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		for i := range 9 { // those in the middle leave
			waiting.Go(func() {
				with := t.Context()
				if i%2 == 1 {
					with = ctx
				}
				place := l.acquire(with, Read)
				if (place == nil) != (i%2 == 1) {
					t.Errorf("waiter %d: %v", i, place)
				}
				if place != nil {
					l.release(place)
				}
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		if s := l.state(); s.queued != 5 || s.shed != 0 {
			t.Errorf("%+v", s)
		}
		free()
		waiting.Wait()
		if s := l.state(); s.inFlight != 0 || s.queued != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// cpu is a processor in virtual time: one goroutine has it, the others wait in
// the order in which they came.
type cpu struct {
	has  chan struct{}
	used atomic.Int64
}

func (c *cpu) run(d time.Duration) {
	c.has <- struct{}{}
	time.Sleep(d)
	c.used.Add(int64(d))
	<-c.has
}

// slices of time as the scheduler gives them to work that takes longer.
const slice = 10 * time.Millisecond

func (c *cpu) compute(d time.Duration) {
	for ; d > 0; d -= slice {
		c.run(min(d, slice))
	}
}

// Costs of a request on one core.
const (
	parseCost  = 20 * time.Microsecond // to be read and refused
	expensive  = 1200 * time.Microsecond
	clientWait = time.Second // then a client gives up
)

// simulated is a program on one core.
type simulated struct {
	cpu cpu
	l   *limiter // nil: lets everything in
}

func simulate(limited bool) *simulated {
	s := &simulated{cpu: cpu{has: make(chan struct{}, 1)}}
	if limited {
		s.l = newLimiter(64, 10*time.Millisecond)
		s.l.cpus, s.l.floor, s.l.rest, s.l.limit = 1, 2, 4, 4
		s.l.used = func() time.Duration { return time.Duration(s.cpu.used.Load()) }
		s.l.yield = func() { s.cpu.run(0) }
	}
	return s
}

// serve reports whether a request was served, which computes for compute and
// then waits for a network.
func (s *simulated) serve(ctx context.Context, c Class, compute, network time.Duration) bool {
	s.cpu.run(parseCost)
	if s.l != nil {
		place := s.l.acquire(ctx, c)
		if place == nil {
			return false
		}
		defer s.l.release(place)
	}
	s.cpu.compute(compute)
	time.Sleep(network)
	return true
}

// seen is what clients saw.
type seen struct {
	mu              sync.Mutex
	served, refused []time.Duration
	late            int
}

func (o *seen) ask(s *simulated, c Class, compute, network time.Duration) {
	began := time.Now()
	ok := s.serve(context.Background(), c, compute, network)
	took := time.Since(began)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !ok:
		o.refused = append(o.refused, took)
	case took > clientWait:
		o.late++
	default:
		o.served = append(o.served, took)
	}
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

// flood asks for rate expensive reads a second, whatever comes back, and for a
// probe twenty times a second.
func flood(s *simulated, rate float64, during time.Duration) (o, probes *seen) {
	o, probes = &seen{}, &seen{}
	var clients sync.WaitGroup
	began := time.Now()
	gap := time.Duration(float64(time.Second) / rate)
	for i := range int(during / gap) {
		time.Sleep(time.Until(began.Add(time.Duration(i) * gap)))
		clients.Go(func() { o.ask(s, Read, expensive, 0) })
		if i%int(rate/20) == 0 {
			clients.Go(func() {
				at := time.Now()
				s.cpu.run(parseCost)
				probes.mu.Lock()
				defer probes.mu.Unlock()
				probes.served = append(probes.served, time.Since(at))
			})
		}
	}
	clients.Wait()
	return o, probes
}

const peak = float64(time.Second) / float64(expensive+parseCost)

// TestOverload asks for more than a core can serve. Without the limiter
// nothing is served in time.
func TestOverload(t *testing.T) {
	t.Parallel()
	const during = 2 * time.Second
	for factor, want := range map[float64]float64{2: 0.90, 5: 0.85, 10: 0.80} {
		synctest.Test(t, func(t *testing.T) {
			s := simulate(true)
			o, probes := flood(s, factor*peak, during)
			share := float64(len(o.served)) / (peak * during.Seconds())
			t.Logf("%gx: %.0f %% of the peak, served p50 %s p99 %s, refused p99 %s, probes p99 %s", factor, 100*share,
				quantile(o.served, 0.5), quantile(o.served, 0.99), quantile(o.refused, 0.99), quantile(probes.served, 0.99))
			if share < want || o.late > 0 {
				t.Errorf("%gx: %.2f of the peak is served, want %.2f; %d too late", factor, share, want, o.late)
			}
			if p99 := quantile(o.refused, 0.99); p99 > 50*time.Millisecond {
				t.Errorf("%gx: refused after %s", factor, p99)
			}
			if p99 := quantile(probes.served, 0.99); p99 > 50*time.Millisecond {
				t.Errorf("%gx: probes take %s", factor, p99)
			}
			// Those that wait when the flood begins are few: 500 ms are what a
			// calm queue holds. A limit that lets work wait for a CPU for 10 ms
			// makes it twice as long.
			if p99, p50 := quantile(o.served, 0.99), quantile(o.served, 0.5); p99 > 40*time.Millisecond || p50 > 10*time.Millisecond {
				t.Errorf("%gx: served after %s, half of them after %s", factor, p99, p50)
			}
			// Whoever comes afterwards is served.
			for range 20 {
				if !s.serve(t.Context(), Batch, expensive, 0) {
					t.Error("a lone request after a flood is refused")
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		o, _ := flood(simulate(false), 5*peak, during)
		if share := float64(len(o.served)) / (peak * during.Seconds()); share > 0.65 {
			t.Errorf("the control serves %.2f of the peak in time", share)
		}
	})
}

// TestALittleMoreThanIsServed: the queue grows slowly, is cut or full at last, and
// then stays short, or all that are served would wait as long as a full queue lasts.
func TestALittleMoreThanIsServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, first, then := simulate(true), &seen{}, &seen{}
		var clients sync.WaitGroup
		const gap, during = (expensive + parseCost) * 10 / 11, 12 * time.Second
		for i := range int(during / gap) {
			time.Sleep(gap)
			o := first
			if time.Duration(i)*gap > during-2*time.Second {
				o = then
			}
			clients.Go(func() { o.ask(s, Read, expensive, 0) })
		}
		clients.Wait()
		if len(first.refused) == 0 {
			t.Error("nobody is refused")
		}
		if p99 := quantile(then.served, 0.99); p99 > 20*time.Millisecond || len(then.refused) > len(then.served)/4 {
			t.Errorf("at last %d are served, after %s, and %d refused", len(then.served), p99, len(then.refused))
		}
	})
}

// TestBurstsAreServed: what a page or a script asks for at once waits, on a
// slow machine too.
func TestBurstsAreServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, o := simulate(true), &seen{}
		var clients sync.WaitGroup
		for range 100 {
			clients.Go(func() { o.ask(s, Read, 5*time.Millisecond, 0) })
		}
		clients.Wait()
		if len(o.served) != 100 {
			t.Errorf("%d of 100 requests are served, %d refused", len(o.served), len(o.refused))
		}
		// Clients that each wait for their answer, for as long as they like.
		o = &seen{}
		for range 40 {
			clients.Go(func() {
				for range 20 {
					o.ask(s, Read, 15*time.Millisecond, 0)
				}
			})
		}
		clients.Wait()
		if len(o.refused) > 0 {
			t.Errorf("%d of 800 requests are refused, of 40 at a time", len(o.refused))
		}
		// A machine that stands still now and then, on which requests pile up.
		o = &seen{}
		for i := range 1800 {
			time.Sleep(time.Second / 600)
			if i%600 == 100 {
				go s.cpu.run(700 * time.Millisecond)
			}
			clients.Go(func() { o.ask(s, Read, 200*time.Microsecond, 0) })
		}
		clients.Wait()
		if len(o.refused) > 0 {
			t.Errorf("%d of 1800 cheap requests are refused because the machine stood still", len(o.refused))
		}
	})
}

// TestTheLimitFollowsWhatRequestsWaitFor: few run together that compute, many
// that wait for a network, and none is kept out by others that hang.
func TestTheLimitFollowsWhatRequestsWaitFor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		compute, network time.Duration
		least, most      int
	}{
		"computing": {2 * time.Millisecond, 0, 2, 12},
		"waiting":   {50 * time.Microsecond, 100 * time.Millisecond, 40, 64},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, o := simulate(true), &seen{}
			var clients sync.WaitGroup
			for range 60 {
				clients.Go(func() {
					for range 20 {
						o.ask(s, Ingest, test.compute, test.network)
					}
				})
			}
			time.Sleep(time.Second)
			if limit := s.l.state().limit; limit < test.least || limit > test.most {
				t.Errorf("%s: the limit is %d, want %d to %d", name, limit, test.least, test.most)
			}
			clients.Wait()
			if len(o.refused) > 0 {
				t.Errorf("%s: %d are refused", name, len(o.refused))
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := simulate(true)
		var hung sync.WaitGroup
		for range 20 {
			hung.Go(func() { s.serve(t.Context(), Read, 0, 30*time.Second) })
		}
		time.Sleep(5 * time.Second)
		o := &seen{}
		for range 100 {
			o.ask(s, Read, expensive, 0)
		}
		if p99 := quantile(o.served, 0.99); len(o.served) != 100 || p99 > 50*time.Millisecond {
			t.Errorf("%d of 100 are served beside 20 that hang, in %s", len(o.served), p99)
		}
		hung.Wait()
	})
}

// TestHowLongWorkMayWait: a short wait counts only while this process itself
// keeps the CPUs busy, and only down to where the limit rests.
func TestHowLongWorkMayWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const target, short = 10 * time.Millisecond, 5 * time.Millisecond
		var used time.Duration
		l := newLimiter(64, target)
		l.cpus, l.floor, l.rest = 1, 2, 4
		l.used = func() time.Duration { return used }
		time.Sleep(time.Minute) // of which nothing says how busy a CPU is now
		l.mu.Lock()
		defer l.mu.Unlock()
		l.beat()
		l.timer.Stop()
		l.limit = 64
		pulses := func(of, delay time.Duration) float64 {
			for range 20 {
				time.Sleep(pulse)
				used += of
				l.adjust(delay, l.mayWait(time.Now()))
			}
			return l.limit
		}
		time.Sleep(pulse)
		used += 8 * time.Millisecond
		if may := l.mayWait(time.Now()); may != target/ownPart {
			t.Errorf("at the first pulse of a busy process work may wait for %s", may)
		}
		if limit := pulses(5*time.Millisecond, short); limit != 64 {
			t.Errorf("%s while others have the CPU: the limit is %v", short, limit)
		}
		if limit := pulses(8*time.Millisecond, short); limit != 4 {
			t.Errorf("%s while the process has the CPU: the limit is %v", short, limit)
		}
		if limit := pulses(0, 2*target); limit != 2 {
			t.Errorf("%s: the limit is %v", 2*target, limit)
		}
		if limit := pulses(8*time.Millisecond, short); limit != 2 {
			t.Errorf("%s when the limit is low: it is %v", short, limit)
		}
	})
}

// TestPatienceEnds: a place that never comes free is no reason to wait for it.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(floorOf(), 10*time.Millisecond)
		_, free := full(t, l, Ingest)
		began := time.Now()
		if l.acquire(t.Context(), Ingest) != nil {
			t.Error("let in")
		}
		if took := time.Since(began); took < patience || took > patience+2*pulse {
			t.Errorf("refused after %s", took)
		}
		if waited := l.waited(time.Now()); waited != 0 {
			t.Errorf("%s is waited when nobody waits", waited)
		}
		free()
	})
}
