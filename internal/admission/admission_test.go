package admission

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"aiops/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// byPath names the class in the first part of the path.
func byPath(_, path string) Class {
	for c := Probe; c < classes; c++ {
		if strings.HasPrefix(path, "/"+c.String()) {
			return c
		}
	}
	return Read
}

func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	var e *model.Error
	if !errors.As(err, &e) {
		panic("a refusal is a model.Error")
	}
	w.Header().Set("Retry-After", e.RetryAfter.String())
	switch e.Kind {
	case model.KindRateLimit:
		w.WriteHeader(http.StatusTooManyRequests)
	case model.KindOverloaded:
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func setup(t *testing.T, c Config, change ...func(*Options)) *Admission {
	t.Helper()
	o := Options{Class: byPath, Refuse: refuse}
	for _, f := range change {
		f(&o)
	}
	a, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func request(path, from string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	return r
}

// full takes every place that class may have and returns how to give them
// back.
func full(t *testing.T, l *limiter, c Class) (n int, free func()) {
	t.Helper()
	var all []*ticket
	for {
		l.mu.Lock()
		room := l.roomFor(c)
		l.mu.Unlock()
		if !room {
			break
		}
		place := l.acquire(t.Context(), c)
		if place == nil {
			t.Fatal("refused although there is room")
		}
		all = append(all, place)
	}
	return len(all), func() {
		for _, place := range all {
			l.release(place)
		}
	}
}

func TestRateOfOneClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := setup(t, Config{Client: Rate{PerSecond: 10, Burst: 5}})
		h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		ask := func(path, from string) *httptest.ResponseRecorder {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, request(path, from))
			return rec
		}
		for i := range 5 {
			rec := ask("/read", "192.0.2.1:1")
			if rec.Code != http.StatusNoContent || rec.Header().Get("RateLimit-Policy") != `"client";q=5;w=1` || rec.Header().Get("RateLimit") != fmt.Sprintf(`"client";r=%d;t=1`, 4-i) {
				t.Errorf("request %d: %d %v", i, rec.Code, rec.Header())
			}
		}
		rec := ask("/read", "192.0.2.1:2")
		if rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") != "100ms" || rec.Header().Get("RateLimit") != `"client";r=0;t=1` {
			t.Errorf("the sixth: %d %v", rec.Code, rec.Header())
		}
		for _, other := range []string{"192.0.2.2:1", "[2001:db8::1]:1", "127.0.0.1:1", "@"} {
			if rec := ask("/read", other); rec.Code != http.StatusNoContent {
				t.Errorf("%s: %d", other, rec.Code)
			}
		}
		if rec := ask("/control", "192.0.2.1:1"); rec.Code != http.StatusNoContent {
			t.Errorf("what people do in trouble: %d", rec.Code)
		}
		for range 100 {
			if rec := ask("/probe", "192.0.2.1:1"); rec.Code != http.StatusNoContent {
				t.Fatalf("a probe: %d", rec.Code)
			}
		}
		time.Sleep(100 * time.Millisecond)
		if rec := ask("/read", "192.0.2.1:1"); rec.Code != http.StatusNoContent {
			t.Errorf("after waiting: %d", rec.Code)
		}
		// One subscriber's IPv6 network counts as one client.
		for i := range 5 {
			ask("/read", fmt.Sprintf("[2001:db8::%d]:1", i+2))
		}
		if rec := ask("/read", "[2001:db8:0:0:ffff::1]:1"); rec.Code != http.StatusTooManyRequests {
			t.Errorf("a sixth address of the same network: %d", rec.Code)
		}
		if rec := ask("/read", "[2001:db8:0:1::1]:1"); rec.Code != http.StatusNoContent {
			t.Errorf("another network: %d", rec.Code)
		}
	})
}

func TestRateOfOneIdentity(t *testing.T) {
	t.Parallel()
	type who struct{}
	a := setup(t, Config{Key: Rate{PerSecond: 0.001, Burst: 2}}, func(o *Options) {
		o.Identity = func(ctx context.Context) string { s, _ := ctx.Value(who{}).(string); return s }
	})
	h := a.PerKey(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	codes := func(name string, n int) (out []int) {
		for range n {
			r := request("/read", "192.0.2.1:1")
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), who{}, name)))
			out = append(out, rec.Code)
		}
		return out
	}
	if got := codes("key_a", 3); got[1] != 204 || got[2] != 429 {
		t.Errorf("one key: %v", got)
	}
	if got := codes("key_b", 1); got[0] != 204 {
		t.Errorf("another key: %v", got)
	}
	if got := codes("", 5); got[4] != 204 {
		t.Errorf("nobody known: %v", got)
	}
}

// TestHeavyRequestsOfOneUser: four run, some wait a moment, the others are
// refused; nobody else notices.
func TestHeavyRequestsOfOneUser(t *testing.T) {
	t.Parallel()
	type who struct{}
	synctest.Test(t, func(t *testing.T) {
		a := setup(t, Config{}, func(o *Options) {
			o.Identity = func(ctx context.Context) string { s, _ := ctx.Value(who{}).(string); return s }
		})
		var mu sync.Mutex
		running, most := 0, 0
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			running += n
			most = max(most, running)
		}
		h := a.PerKey(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			count(1)
			defer count(-1)
			d, _ := time.ParseDuration(r.URL.Query().Get("for"))
			time.Sleep(d)
			w.WriteHeader(http.StatusNoContent)
		}))
		ask := func(path, name, from string) *httptest.ResponseRecorder {
			r := request(path, from)
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), who{}, name)))
			return rec
		}
		at := func(n int, path, name string, wantServed int, within time.Duration) {
			t.Helper()
			var clients sync.WaitGroup
			began, served := time.Now(), 0
			most = 0
			for range n {
				clients.Go(func() {
					rec := ask(path, name, "192.0.2.1:1")
					mu.Lock()
					defer mu.Unlock()
					if rec.Code == http.StatusNoContent {
						served++
					} else if d, err := time.ParseDuration(rec.Header().Get("Retry-After")); rec.Code != http.StatusTooManyRequests || err != nil || d < time.Second {
						t.Errorf("refused with %d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
					}
				})
			}
			clients.Wait()
			if served != wantServed || time.Since(began) > within {
				t.Errorf("%d of %d are served within %s, want %d within %s", served, n, time.Since(began), wantServed, within)
			}
		}
		at(MaxHeavy+maxHeavyWaiting, "/batch?for=100ms", "key_a", MaxHeavy+maxHeavyWaiting, time.Second)
		if most != MaxHeavy {
			t.Errorf("%d ran at once, want %d", most, MaxHeavy)
		}
		at(100, "/batch?for=100ms", "key_a", MaxHeavy+maxHeavyWaiting, time.Second)
		at(10, "/batch?for=10s", "", MaxHeavy, 10*time.Second) // the others waited for nothing
		at(100, "/read?for=100ms", "key_a", 100, 100*time.Millisecond)

		var others sync.WaitGroup
		for range MaxHeavy {
			others.Go(func() { ask("/batch?for=5s", "", "192.0.2.1:1") })
		}
		synctest.Wait()
		began := time.Now()
		for _, r := range []*httptest.ResponseRecorder{ask("/batch", "", "192.0.2.2:1"), ask("/batch", "key_a", "192.0.2.1:1")} {
			if r.Code != http.StatusNoContent || time.Since(began) > 0 {
				t.Errorf("another user: %d after %s", r.Code, time.Since(began))
			}
		}
		others.Wait()
		if len(a.heavy.users) != 0 {
			t.Errorf("users are remembered: %v", a.heavy.users)
		}
	})
}

// TestAFloodOfAddresses: memory stays bounded, and a client that was refused
// gets no new bucket by others coming.
func TestAFloodOfAddresses(t *testing.T) {
	t.Parallel()
	const most = 1000
	s := newRates[clientKey]("client", most)
	hot := clientKey{network: netip.MustParsePrefix("198.51.100.7/32")}
	r := Rate{PerSecond: 0.001, Burst: 3}
	now := time.Now()
	let := 0
	for i := range 20_000 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		s.take(http.Header{}, clientKey{network: network(addr)}, r, now)
		if i%20 == 0 {
			if _, ok := s.take(http.Header{}, hot, r, now); ok {
				let++
			}
		}
	}
	s.buckets.CleanUp()
	if n := s.buckets.EstimatedSize(); n > most {
		t.Errorf("%d clients are remembered, at most %d should be", n, most)
	}
	if let > 2*r.Burst {
		t.Errorf("a refused client got in %d times of 1,000 while others came, want about %d", let, r.Burst)
	}
}

func TestWhoTheClientIs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		trusted   []string
		peer      string
		forwarded []string
		want      string
	}{
		"nobody is trusted":          {nil, "192.0.2.1:5", []string{"203.0.113.9"}, "192.0.2.1"},
		"the peer is not trusted":    {[]string{"10.0.0.0/8"}, "192.0.2.1:5", []string{"203.0.113.9"}, "192.0.2.1"},
		"a trusted proxy":            {[]string{"10.0.0.0/8"}, "10.1.1.1:5", []string{"203.0.113.9"}, "203.0.113.9"},
		"what the client made up":    {[]string{"10.0.0.0/8"}, "10.1.1.1:5", []string{"127.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		"two proxies":                {[]string{"10.0.0.0/8"}, "10.1.1.1:5", []string{"1.2.3.4, 203.0.113.9, 10.2.2.2"}, "203.0.113.9"},
		"two headers":                {[]string{"10.0.0.0/8"}, "10.1.1.1:5", []string{"203.0.113.9", "10.2.2.2"}, "203.0.113.9"},
		"rubbish":                    {[]string{"10.0.0.0/8"}, "10.1.1.1:5", []string{"<script>"}, "10.1.1.1"},
		"no header":                  {[]string{"10.0.0.0/8"}, "10.1.1.1:5", nil, "10.1.1.1"},
		"only proxies":               {[]string{"10.0.0.0/8"}, "10.1.1.1:5", []string{"10.3.3.3"}, "10.3.3.3"},
		"a single address":           {[]string{"10.1.1.1"}, "10.1.1.1:5", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		"IPv6":                       {[]string{"fd00::/8"}, "[fd00::1]:5", []string{"[2001:db8::7]:443"}, "2001:db8::7"},
		"an IPv4 address as IPv6":    {[]string{"10.0.0.0/8"}, "[::ffff:10.1.1.1]:5", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		"a peer that has no address": {[]string{"10.0.0.0/8"}, "@", []string{"203.0.113.9"}, "@"},
	} {
		a := setup(t, Config{TrustedProxies: test.trusted})
		r := request("/read", test.peer)
		for _, f := range test.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		if got := a.Client(r); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// TestNobodyForgesALoopbackAddress: whatever a client sends, behind a proxy it
// is never taken for this machine unless the proxy itself said so.
func TestNobodyForgesALoopbackAddress(t *testing.T) {
	t.Parallel()
	a := setup(t, Config{TrustedProxies: []string{"10.0.0.0/8"}})
	rapid.Check(t, func(t *rapid.T) {
		made := rapid.SliceOfN(rapid.SampledFrom([]string{"127.0.0.1", "::1", "10.9.9.9", "x", "", "[::1]:80", " 127.0.0.1 "}), 0, 40).Draw(t, "made up")
		r := request("/read", "10.1.1.1:5")
		r.Header.Set("X-Forwarded-For", strings.Join(append(made, "203.0.113.9"), ","))
		if got := a.Client(r); got != "203.0.113.9" {
			t.Fatalf("%s for %q", got, r.Header)
		}
	})
}

// TestASlowBodyHoldsNoPlace is a client that sends its body byte by byte.
func TestASlowBodyHoldsNoPlace(t *testing.T) {
	t.Parallel()
	a := setup(t, Config{})
	h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", text, err)
	}))
	in, out := io.Pipe()
	r := httptest.NewRequest(http.MethodPost, "/read", in)
	rec := httptest.NewRecorder()
	var done sync.WaitGroup
	done.Go(func() { h.ServeHTTP(rec, r) })
	for _, c := range "slow" {
		fmt.Fprintf(out, "%c", c)
		if n := a.limiter.state().inFlight; n != 0 {
			t.Errorf("%d places are taken while the body arrives", n)
		}
	}
	out.CloseWithError(errors.New("gone"))
	done.Wait()
	if got := rec.Body.String(); got != "slow gone" {
		t.Errorf("the handler read %q", got)
	}
	if !a.ahead.budget.TryAcquire(aheadBudget) {
		t.Error("memory of bodies leaked")
	}
}

func TestBodiesPassUnchanged(t *testing.T) {
	t.Parallel()
	a := setup(t, Config{})
	h := a.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	for _, size := range []int{0, 1, aheadChunk - 1, aheadChunk, aheadBytes, aheadBytes + 1, 1 << 20, 2 << 20} {
		text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/ingest", strings.NewReader(text)))
		if rec.Body.String() != text {
			t.Errorf("a body of %d bytes arrives as %d", size, rec.Body.Len())
		}
	}
}

func TestLoadState(t *testing.T) {
	t.Parallel()
	readings := func(m *machine, from time.Time, ms int, wanted State) (last State) {
		for i := range ms / 100 {
			m.step(from.Add(time.Duration(i)*tick), wanted, "")
		}
		return m.state
	}
	began := time.Unix(0, 0)
	m := &machine{state: Normal}
	if got := readings(m, began, 900, Overloaded); got != Normal {
		t.Errorf("%s after 0.9 s", got)
	}
	now := began.Add(900 * time.Millisecond)
	if got := readings(m, now, 300, Overloaded); got != Overloaded {
		t.Errorf("%s after 1.2 s", got)
	}
	now = now.Add(300 * time.Millisecond)
	for range 20 { // it comes and goes: no flapping
		if got := readings(m, now, 2000, Normal); got != Overloaded {
			t.Fatalf("%s after 2 calm seconds", got)
		}
		now = now.Add(2 * time.Second)
		readings(m, now, 100, Overloaded)
		now = now.Add(tick)
	}
	if got := readings(m, now, 4200, Normal); got != Elevated {
		t.Errorf("%s after 4 calm seconds", got)
	}
	if got := readings(m, now.Add(4200*time.Millisecond), 4200, Normal); got != Normal {
		t.Errorf("%s after 8 calm seconds", got)
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	calm := signals{target: 10 * time.Millisecond}
	for want, change := range map[State][]func(*signals){
		Normal:     {func(*signals) {}},
		Elevated:   {func(s *signals) { s.delay = 30 * time.Millisecond }, func(s *signals) { s.memory = 0.85 }, func(s *signals) { s.waited = 150 * time.Millisecond }},
		Overloaded: {func(s *signals) { s.delay = 150 * time.Millisecond }, func(s *signals) { s.memory = 0.95 }, func(s *signals) { s.shedding = true }},
	} {
		for i, f := range change {
			s := calm
			f(&s)
			if got, reason := s.read(); got != want || reason == "" {
				t.Errorf("%d: %s (%s), want %s", i, got, reason, want)
			}
		}
	}
}

// TestRunTellsOfOverload drives the whole package: refusals make the state
// rise, calm makes it fall, each change is told once.
func TestRunTellsOfOverload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []State
		a := setup(t, Config{MemoryBytes: 1 << 40}, func(o *Options) {
			o.OnChange = func(c Change) { mu.Lock(); defer mu.Unlock(); told = append(told, c.To) }
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		for range 15 {
			a.limiter.mu.Lock()
			a.limiter.shed++
			a.limiter.mu.Unlock()
			time.Sleep(tick)
		}
		if a.State() != Overloaded {
			t.Errorf("%+v", a.Load())
		}
		time.Sleep(10 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if a.State() != Normal {
			t.Errorf("%+v", a.Load())
		}
		if fmt.Sprint(told) != "[overloaded elevated normal]" {
			t.Errorf("told %v", told)
		}
	})
}

// TestDisabled is the control: without the limiter nothing is refused.
func TestDisabled(t *testing.T) {
	t.Parallel()
	a := setup(t, Config{Disabled: true, Client: Rate{PerSecond: 0.001, Burst: 1}})
	_, free := full(t, a.limiter, Ingest)
	defer free()
	h := a.PerKey(a.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })))
	for range 10 {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, request("/batch", "192.0.2.1:1"))
		if rec.Code != http.StatusNoContent || rec.Header().Get("RateLimit") != "" {
			t.Fatalf("%d %v", rec.Code, rec.Header())
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	for _, bad := range []Config{
		{MaxConcurrency: 1}, {MaxConcurrency: -1}, {TargetDelay: 1}, {Client: Rate{PerSecond: -1}}, {Key: Rate{Burst: -1}},
		{MaxClients: -1}, {MemoryBytes: -1}, {TrustedProxies: []string{"everybody"}}, {TrustedProxies: []string{"10.0.0.0/33"}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
	if got := (Config{Client: Rate{PerSecond: 3}}).WithDefaults().Client; got.Burst != 15 {
		t.Errorf("%+v", got)
	}
}
