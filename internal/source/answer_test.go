package source

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/prometheus/model/value"
	"pgregory.net/rapid"

	"aiops/internal/model"
)

var stale = math.Float64frombits(value.StaleNaN)

// samples makes samples of times and values in turn.
func samples(timesAndValues ...float64) []model.Sample {
	var all []model.Sample
	for pair := range slices.Chunk(timesAndValues, 2) {
		all = append(all, model.Sample{T: int64(pair[0]), V: pair[1]})
	}
	return all
}

// labelled makes the labels {name="1"}.
func labelled(name string) model.Labels { return model.LabelsFromMap(map[string]string{name: "1"}) }

func TestClean(t *testing.T) {
	t.Parallel()
	span := Span{Start: 1000, End: 5000, Step: 1000}
	nan, inf := math.NaN(), math.Inf(1)
	for _, tc := range []struct {
		name      string
		in, wants []model.Sample
		did       Cleaned
	}{
		{"clean stays", samples(1000, 1, 3000, 2), samples(1000, 1, 3000, 2), Cleaned{}},
		{"none", nil, nil, Cleaned{}},
		{"NaN and infinities stay", samples(1000, nan, 2000, inf, 3000, -inf), samples(1000, nan, 2000, inf, 3000, -inf), Cleaned{}},
		{"stale markers go", samples(1000, 1, 2000, stale, 3000, 3), samples(1000, 1, 3000, 3), Cleaned{Stale: 1}},
		{"other times go", samples(0, 1, 1500, 1, 2000, 2, 6000, 1), samples(2000, 2), Cleaned{Misaligned: 3}},
		{"last wins", samples(1000, 1, 1000, 2, 2000, 3), samples(1000, 2, 2000, 3), Cleaned{Duplicates: 1}},
		{"sorted, last wins", samples(3000, 3, 1000, 1, 2000, 2, 1000, 9), samples(1000, 9, 2000, 2, 3000, 3), Cleaned{Reordered: 2, Duplicates: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, did := Clean(slices.Clone(tc.in), span)
			if diff := cmp.Diff(tc.wants, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
			if did.Stale != tc.did.Stale || did.Misaligned != tc.did.Misaligned || did.Duplicates != tc.did.Duplicates || did.Any() != tc.did.Any() {
				t.Errorf("did %+v, want %+v", did, tc.did)
			}
		})
	}
}

// Whatever comes in, what goes out is in order, unique, aligned, not stale, and
// holds for each time the value that came last.
func TestCleanInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		span := Span{Start: 10, End: 10 + 5*rapid.Int64Range(0, 20).Draw(t, "steps"), Step: 5}
		in := rapid.SliceOf(rapid.Custom(func(t *rapid.T) model.Sample {
			v := rapid.Float64Range(-5, 5).Draw(t, "v")
			if rapid.IntRange(0, 9).Draw(t, "stale") == 0 {
				v = stale
			}
			return model.Sample{T: rapid.Int64Range(0, 120).Draw(t, "t"), V: v}
		})).Draw(t, "in")
		last := map[int64]float64{}
		for _, s := range in {
			if span.Holds(s.T) && !value.IsStaleNaN(s.V) {
				last[s.T] = s.V
			}
		}
		got, _ := Clean(slices.Clone(in), span)
		if len(got) != len(last) {
			t.Fatalf("%d samples, want %d", len(got), len(last))
		}
		for i, s := range got {
			if i > 0 && got[i-1].T >= s.T {
				t.Fatalf("out of order at %d", i)
			}
			if v, ok := last[s.T]; !ok || v != s.V {
				t.Fatalf("at %d: %v, want %v", s.T, s.V, v)
			}
		}
	})
}

func TestCleanAnswerJoinsDuplicateSeries(t *testing.T) {
	t.Parallel()
	span := Span{Start: 0, End: 3, Step: 1}
	a, b := labelled("a"), labelled("b")
	// One slab, as decoders allocate: joining must not write into a neighbour.
	slab := samples(0, 1, 1, 1, 0, 2, 1, 9, 2, 1)
	got, did := CleanAnswer([]model.SeriesData{
		{Labels: a, Samples: slab[0:2:2]}, {Labels: b, Samples: slab[2:3:3]}, {Labels: a, Samples: slab[3:5:5]}, {Labels: labelled("c")},
	}, span)
	want := []model.SeriesData{{Labels: a, Samples: samples(0, 1, 1, 9, 2, 1)}, {Labels: b, Samples: samples(0, 2)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if did.Series != 1 || did.Duplicates != 1 {
		t.Errorf("did %+v, want one series and one sample joined", did)
	}
}

func TestSplitCoversTheSpan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(-1e12, 2e12).Draw(t, "start")
		step := rapid.Int64Range(1, 86_400_000).Draw(t, "step")
		points := rapid.Int64Range(1, 3*MaxPoints).Draw(t, "points")
		slack := rapid.Int64Range(0, step-1).Draw(t, "slack")
		span, err := NewSpan(time.UnixMilli(start), time.UnixMilli(start+(points-1)*step+slack), time.Duration(step)*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if span.Points() != points {
			t.Fatalf("%d points, want %d", span.Points(), points)
		}
		most := rapid.Int64Range(1, MaxPoints).Draw(t, "most")
		at := start
		for _, p := range span.Split(most) {
			if p.Start != at || p.Points() < 1 || p.Points() > most || (p.End-p.Start)%step != 0 {
				t.Fatalf("part %+v does not follow %d", p, at)
			}
			at = p.End + step
		}
		if at != span.End+step {
			t.Fatalf("the parts end at %d, want %d", at-step, span.End)
		}
	})
}

func TestNewSpanRefuses(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_000_000, 0)
	for _, tc := range []struct {
		name  string
		end   time.Time
		step  time.Duration
		field string
	}{
		{"no step", at, 0, "/step"},
		{"negative step", at, -time.Second, "/step"},
		{"a fraction of a millisecond", at, 1500 * time.Microsecond, "/step"},
		{"backward", at.Add(-time.Second), time.Second, "/end"},
		{"endless", at.AddDate(100, 0, 0), time.Millisecond, "/step"},
	} {
		var e *model.Error
		if _, err := NewSpan(at, tc.end, tc.step); !errors.As(err, &e) || e.Kind != model.KindQuery || e.Fields[0].Pointer != tc.field {
			t.Errorf("%s: %v, want KindQuery at %s", tc.name, err, tc.field)
		}
	}
}

func TestQueryParts(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	span := Span{Start: 0, End: 3*MaxPoints*10 - 10, Step: 10}
	var running, most atomic.Int32
	fetch := func(_ context.Context, p Span) ([]model.SeriesData, error) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		series := []model.SeriesData{{Labels: labelled("a"), Samples: samples(float64(p.Start), 1, float64(p.End), 2)}}
		if p.Start > 0 {
			series = append(series, model.SeriesData{Labels: labelled("b"), Samples: samples(float64(p.Start), 3)})
		}
		return series, nil
	}
	got, err := QueryParts(ctx, span.Split(MaxPoints), 2, 2, fetch)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || len(got[0].Samples) != 6 || len(got[1].Samples) != 2 {
		t.Fatalf("joined to %v", got)
	}
	if !slices.IsSortedFunc(got[0].Samples, func(a, b model.Sample) int { return int(a.T - b.T) }) {
		t.Errorf("samples out of order: %v", got[0].Samples)
	}
	if most.Load() > 2 {
		t.Errorf("%d parts at a time, want at most 2", most.Load())
	}
	var e *model.Error
	if _, err := QueryParts(ctx, span.Split(MaxPoints), 2, 1, fetch); !errors.As(err, &e) || e.Context["series"] != 2 || e.Context["limit"] != 1 || e.Fields[0].Code != "series_limit" {
		t.Errorf("2 series where 1 is allowed: %v, want the limit error with both numbers", err)
	}
	_, err = QueryParts(ctx, span.Split(MaxPoints), 2, 2, func(_ context.Context, p Span) ([]model.SeriesData, error) { panic("a poisoned answer") })
	if err == nil || !strings.Contains(err.Error(), "a poisoned answer") || model.KindOf(err) != model.KindInternal {
		t.Errorf("a panic while fetching is %v, want an error of ours", err)
	}
	broken := errors.New("broken")
	if _, err := QueryParts(ctx, span.Split(MaxPoints), 2, 2, func(context.Context, Span) ([]model.SeriesData, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v, want the part's", err)
	}
}
