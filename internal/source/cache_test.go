package source

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"aiops/internal/model"
)

// late is a source whose samples come late: at first a step has no sample,
// then a wrong one, and from late_data on the right one, for ever. Series come
// and go. It counts what it is asked.
type late struct {
	now     func() time.Time
	late    time.Duration
	queries atomic.Int64
	steps   atomic.Int64
	fail    error
	slow    func()
}

func (l *late) LateData() time.Duration { return l.late }

// value is what the source says at now of a series at t.
func (l *late) value(series int, t int64, now time.Time) (float64, bool) {
	age := now.Sub(time.UnixMilli(t))
	h := uint64(t)*0x9e3779b97f4a7c15 + uint64(series)*0xbf58476d1ce4e5b9
	right := float64(h >> 40)
	switch {
	case (t/60_000+int64(series))%7 == 0: // this series is not there in this minute
		return 0, false
	case age >= l.late:
		return right, true
	case age < l.late/2:
		return 0, false
	}
	return -right, true
}

func (l *late) QueryRange(_ context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error) {
	l.queries.Add(1)
	if l.slow != nil {
		l.slow()
	}
	if l.fail != nil {
		return nil, l.fail
	}
	span, err := NewSpan(start, end, step)
	if err != nil {
		return nil, err
	}
	l.steps.Add(span.Points())
	now := l.now()
	var out []model.SeriesData
	for series := range 5 {
		data := model.SeriesData{Labels: model.LabelsFromMap(map[string]string{"q": query, "series": fmt.Sprint(series)})}
		for t := span.Start; t <= span.End; t += span.Step {
			if v, ok := l.value(series, t, now); ok {
				data.Samples = append(data.Samples, model.Sample{T: t, V: v})
			}
		}
		if len(data.Samples) > 0 {
			out = append(out, data)
		}
	}
	if maxSeries > 0 && len(out) > maxSeries {
		return nil, SeriesLimit(len(out), true, maxSeries)
	}
	return out, nil
}

func equal(a, b []model.SeriesData) bool {
	return slices.EqualFunc(a, b, func(a, b model.SeriesData) bool {
		return slices.Equal(a.Labels, b.Labels) && slices.Equal(a.Samples, b.Samples)
	})
}

// TestKeptEqualsAsked: whatever ranges are asked for and however the clock
// goes on, what the cache answers is what the source answers.
func TestKeptEqualsAsked(t *testing.T) {
	t.Parallel()
	var kept, asked atomic.Int64
	rapid.Check(t, func(t *rapid.T) {
		clock := time.UnixMilli(1_700_000_000_000)
		now := func() time.Time { return clock }
		src := &late{now: now, late: rapid.SampledFrom([]time.Duration{0, 5 * time.Second, time.Minute}).Draw(t, "late")}
		c := NewCache(CacheConfig{RecentAge: -1}, now)
		client := c.For(src)
		for range rapid.IntRange(1, 40).Draw(t, "queries") {
			clock = clock.Add(time.Duration(rapid.Int64Range(0, 90_000).Draw(t, "wait")) * time.Millisecond)
			step := rapid.SampledFrom([]time.Duration{5 * time.Second, 15 * time.Second}).Draw(t, "step")
			end := clock.Add(-time.Duration(rapid.Int64Range(-20, 120).Draw(t, "back")) * time.Second)
			start := end.Add(-time.Duration(rapid.Int64Range(0, 120).Draw(t, "length")) * step)
			if rapid.Bool().Draw(t, "aligned") {
				start, end = start.Truncate(step), end.Truncate(step)
			}
			limit := rapid.SampledFrom([]int{0, 3, 100}).Draw(t, "limit")
			got, gotErr := client.QueryRange(context.Background(), "up", start, end, step, limit)
			want, wantErr := src.QueryRange(context.Background(), "up", start, end, step, limit)
			if (gotErr == nil) != (wantErr == nil) || model.KindOf(gotErr) != model.KindOf(wantErr) {
				t.Fatalf("%v, want %v", gotErr, wantErr)
			}
			if !equal(got, want) {
				t.Fatalf("%s to %s by %s at %s:\n%v\nwant\n%v", start, end, step, clock, got, want)
			}
			for i := range got { // the receiver owns the samples
				for j := range got[i].Samples {
					got[i].Samples[j].V = math.NaN()
				}
			}
		}
		s := c.Stats()
		kept.Add(int64(s.StepsKept))
		asked.Add(int64(s.StepsAsked))
	})
	if kept.Load() < asked.Load()/10 {
		t.Errorf("%d steps were kept, %d asked for: the test proves little", kept.Load(), asked.Load())
	}
}

// TestRecentStepsAreNoOlderThanSaid: with recent steps kept, each sample is
// what the source said at some moment within the stated age.
func TestRecentStepsAreNoOlderThanSaid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const step, age = 15 * time.Second, 5 * time.Second
		clock := time.UnixMilli(1_700_000_000_000)
		now := func() time.Time { return clock }
		src := &late{now: now, late: 40 * time.Second}
		client := NewCache(CacheConfig{}, now).For(src)
		for range rapid.IntRange(1, 40).Draw(t, "queries") {
			clock = clock.Add(time.Duration(rapid.Int64Range(0, 8).Draw(t, "wait")) * time.Second)
			end := clock.Truncate(step)
			got, err := client.QueryRange(context.Background(), "up", end.Add(-time.Duration(rapid.Int64Range(0, 40).Draw(t, "length"))*step), end, step, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range got {
				var series int
				if _, err := fmt.Sscan(s.Labels.Value("series"), &series); err != nil {
					t.Fatal(err)
				}
				for _, p := range s.Samples {
					ok := false
					for back := time.Duration(0); back < age; back += time.Second {
						v, there := src.value(series, p.T, clock.Add(-back))
						ok = ok || there && v == p.V
					}
					if !ok {
						t.Fatalf("at %s the sample of %s is %v, which is older than %s", clock, time.UnixMilli(p.T), p.V, age)
					}
				}
			}
		}
	})
}

// TestDashboards is the reference load: fifty dashboards show the last hour of
// twenty charts at a step of 15 s and refresh every 15 s, each at its own
// moment, for three minutes.
func TestDashboards(t *testing.T) {
	t.Parallel()
	clock := time.UnixMilli(1_700_000_000_000)
	now := func() time.Time { return clock }
	src := &late{now: now, late: 10 * time.Second}
	c := NewCache(CacheConfig{}, now)
	client := c.For(src)
	const dashboards, charts, refresh, step = 50, 20, 15 * time.Second, 15 * time.Second
	rng := rand.New(rand.NewPCG(1, 2))
	due := make([]time.Duration, dashboards)
	for i := range due {
		due[i] = time.Duration(rng.Int64N(int64(refresh)))
	}
	slices.Sort(due)
	asked, steps := 0, int64(0)
	began := clock
	for round := range 12 {
		for _, d := range due {
			clock = began.Add(time.Duration(round)*refresh + d)
			end := clock.Truncate(step)
			for chart := range charts {
				if _, err := client.QueryRange(t.Context(), fmt.Sprintf("chart_%d", chart), end.Add(-time.Hour), end, step, 100); err != nil {
					t.Fatal(err)
				}
				asked++
				steps += 241
			}
		}
	}
	hits := 1 - float64(src.queries.Load())/float64(asked)
	work := 1 - float64(src.steps.Load())/float64(steps)
	t.Logf("%d queries, %d reached the source: hit ratio %.1f %%; %.2f %% of the steps came from memory; %d bytes", asked, src.queries.Load(), 100*hits, 100*work, c.Stats().Bytes)
	if hits < 0.90 || work < 0.99 {
		t.Errorf("hit ratio %.3f, share of the steps %.4f; want at least 0.90 and 0.99", hits, work)
	}
	if s := c.Stats(); s.Hits != uint64(asked)-uint64(src.queries.Load()) {
		t.Errorf("%+v, and the source was asked %d times of %d", s, src.queries.Load(), asked)
	}
	// The control: nothing kept, everything asked.
	src.queries.Store(0)
	if _, err := NewCache(CacheConfig{MaxBytes: -1}, now).For(src).QueryRange(t.Context(), "chart_0", clock.Add(-time.Hour), clock, step, 100); err != nil || src.queries.Load() != 1 {
		t.Errorf("%v after %d queries", err, src.queries.Load())
	}
}

func TestQueriesThatComeTogetherAskOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src := &late{now: time.Now, slow: func() { time.Sleep(time.Second) }}
		c := NewCache(CacheConfig{}, nil)
		client := c.For(src)
		end := time.Now().Truncate(15 * time.Second)
		ask := func(ctx context.Context) error {
			_, err := client.QueryRange(ctx, "up", end.Add(-time.Hour), end, 15*time.Second, 0)
			return err
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if err := ask(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := src.queries.Load(); n != 1 {
			t.Errorf("%d queries", n)
		}
		// The first one leaves: the others are served, and whoever waits may leave.
		time.Sleep(time.Hour)
		end = time.Now().Truncate(15 * time.Second)
		src.fail = errors.New("gone")
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() { _ = ask(t.Context()) })
		synctest.Wait()
		all.Go(func() {
			if err := ask(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		cancel()
		all.Wait()
		if len(c.turns) != 0 {
			t.Errorf("%d turns are left", len(c.turns))
		}
	})
}

// TestMemoryIsBounded asks for more than there is room for.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	clock := time.UnixMilli(1_700_000_000_000)
	now := func() time.Time { return clock }
	const room = 1 << 20
	c := NewCache(CacheConfig{MaxBytes: room}, now)
	client := c.For(&late{now: now})
	for i := range 500 {
		if _, err := client.QueryRange(t.Context(), fmt.Sprintf("m%d", i), clock.Add(-time.Hour), clock, 15*time.Second, 0); err != nil {
			t.Fatal(err)
		}
	}
	c.entries.CleanUp()
	if s := c.Stats(); s.Bytes > room || s.Entries == 0 {
		t.Errorf("%+v", s)
	}
}

func TestOldAnswersAreAskedAgain(t *testing.T) {
	t.Parallel()
	clock := time.UnixMilli(1_700_000_000_000)
	now := func() time.Time { return clock }
	src := &late{now: now}
	c := NewCache(CacheConfig{MaxAge: model.Duration(time.Minute)}, now)
	first, second := c.For(src), c.For(src)
	end := clock.Add(-time.Hour)
	ask := func(q *Cached) int64 {
		before := src.queries.Load()
		if _, err := q.QueryRange(t.Context(), "up", end.Add(-time.Hour), end, time.Minute, 0); err != nil {
			t.Fatal(err)
		}
		return src.queries.Load() - before
	}
	if ask(first) != 1 || ask(first) != 0 || ask(second) != 1 {
		t.Error("one client's answers are kept for itself, and for no other")
	}
	if clock = clock.Add(61 * time.Second); ask(first) != 1 {
		t.Error("an answer is older than allowed")
	}
}

func TestIndependent(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]bool{
		"up": true, "rate(x[5m])": true, "x offset 1h": true, "max_over_time(rate(x[1m])[10m:1m])": true, "topk(3, x)": true, "time()": true,
		"x @ 1609746000": false, "x @ end()": false, "x @ start()": false, "rate(x[5m] @ end())": false, "x offset -5m": false,
		"max_over_time(x[10m:1m] @ end())": false, "max_over_time(x[10m:1m] offset -1h)": false, "x[5m]": false, "}": false, "": false,
	} {
		if got := independent(query); got != want {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
}

func TestCacheConfig(t *testing.T) {
	t.Parallel()
	for _, bad := range []CacheConfig{{MaxBytes: 1 << 50}, {MaxAge: -1}, {RecentAge: model.Duration(time.Hour)}} {
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "max_") && !strings.Contains(err.Error(), "recent_age") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := (CacheConfig{}).Validate(); err != nil {
		t.Error(err)
	}
}
