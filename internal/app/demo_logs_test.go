package app

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/demo"
	"aiops/internal/model"
	"aiops/internal/pipeline"
	"aiops/internal/pipeline/logs"
	"aiops/internal/source/builtin"
	"aiops/internal/store"
)

// shopLog writes what the shop of the demo writes, in a time of its own: the
// lines of its services, at its rate, and with its faults.
type shopLog struct {
	r     *rand.Rand
	out   bytes.Buffer
	lines []model.LogLine
	news  int
}

// say writes one line of a service at a time.
func (s *shopLog) say(at time.Time, service string, level slog.Level, message string, attributes ...any) {
	record := slog.NewRecord(at, level, message, 0)
	record.Add(append([]any{"service", service}, attributes...)...)
	s.out.Reset()
	_ = slog.NewJSONHandler(&s.out, nil).Handle(context.Background(), record)
	s.lines = append(s.lines, model.LogLine{T: at.UnixNano(), Text: string(bytes.TrimRight(s.out.Bytes(), "\n")),
		Stream: model.Labels{{Name: "job", Value: "shop"}, {Name: "service", Value: service}}})
}

// second writes the lines of one second.
func (s *shopLog) second(at time.Time, shoppers float64, fault demo.Fault) []model.LogLine {
	s.lines = nil
	n := int(shoppers)
	if s.r.Float64() < shoppers-float64(n) {
		n++
	}
	for i := range n {
		now := at.Add(time.Duration(i) * time.Second / time.Duration(n+1))
		served := func(service string, most int) {
			if fault == demo.FaultLogSilent && service == "cart" {
				return
			}
			s.say(now, service, slog.LevelInfo, "request served", "status", 200, "duration_ms", 2+s.r.IntN(most), "request", s.r.Uint32())
		}
		retries := 0
		if fault == demo.FaultLogBurst {
			retries = 8
		} else if s.r.IntN(10) == 0 {
			retries = 1
		}
		for range retries {
			s.say(now, "stock", slog.LevelInfo, "reservation retried", "shelf", s.r.IntN(400), "attempt", s.r.IntN(3)+1)
		}
		served("stock", 3)
		served("cart", 6)
		if fault == demo.FaultLogError && s.r.IntN(3) == 0 {
			s.say(now, "payment", slog.LevelError, newErrors[s.news%len(newErrors)], "bank", s.r.IntN(8))
		}
		served("payment", 12)
		served("front", 30)
	}
	return s.lines
}

// newErrors are what the shop never said before, another one each time.
var newErrors = [...]string{"settlement file has a wrong checksum", "key of the terminal was revoked", "clearing house closed the session"}

// shopRun is hours of the shop's lines, counted, and what its detectors on
// logs find in them.
type shopRun struct {
	began time.Time
	found map[string][]model.Anomaly // by the name of the detector
}

// at returns an anomaly of the detector whose alarm was on within the window,
// and what else the detector told in there.
func (r shopRun) at(detector string, w demo.Window) (first model.Anomaly, n int) {
	for _, a := range r.found[detector] {
		if at := a.StartedAt.Sub(r.began); at >= w.Start && at <= w.End+30*time.Second {
			if n == 0 {
				first = a
			}
			n++
		}
	}
	return first, n
}

func runShop(t *testing.T, length time.Duration, faults []demo.Window) shopRun {
	t.Helper()
	const rate, day = 12, 10 * time.Minute // shoppers a second at noon, as many as make the test quick
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	c, err := Options{Demo: true, DataDir: t.TempDir(), Env: func(string) (string, bool) { return "", false }}.load()
	if err != nil {
		t.Fatal(err)
	}
	db, err := builtin.Open(builtin.Config{Dir: filepath.Join(c.DataDir, "tsdb"), Instance: "test", Host: builtin.HostConfig{Disabled: true}}, quiet, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	kept, err := store.Open(t.Context(), c.Storage, quiet, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()

	r := shopRun{began: time.Now().Add(-length - time.Minute).Truncate(model.LogBucket), found: map[string][]model.Anomaly{}}
	clock := r.began
	counts := logs.Config{Learning: model.Duration(time.Minute)} // as the demo has it
	stage, err := logs.Open(t.Context(), logs.Options{Config: counts, Series: db, Lines: nowhere{}, States: kept, Logger: quiet, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	take := described(stage.Take)
	shop := shopLog{r: rand.New(rand.NewPCG(1, 1))}
	was := demo.Fault("")
	for offset := time.Duration(0); offset < length; offset += time.Second {
		is := demo.Fault("")
		for _, w := range faults {
			if offset >= w.Start && offset < w.End {
				is = w.Fault
			}
		}
		if is != was && is == demo.FaultLogError {
			shop.news++
		}
		was = is
		lines := shop.second(clock, demo.Rate(offset, day, rate), is)
		clock = clock.Add(time.Second)
		if err := take(t.Context(), model.BuiltinSource, lines); err != nil {
			t.Fatal(err)
		}
		stage.Flush(t.Context())
	}
	clock = clock.Add(20 * time.Second)
	stage.Flush(t.Context())

	engine := pipeline.New(c.Pipeline, kept, func(d model.Detector) (pipeline.Source, bool) {
		return logs.History(counts, d, db), true
	}, quiet, nil, nil)
	for _, own := range c.Detectors {
		d, err := own.Definition()
		if err != nil {
			t.Fatal(err)
		}
		if d.Log == nil {
			continue
		}
		result, err := engine.Backtest(t.Context(), d, r.began.Add(time.Minute), r.began.Add(length), nil)
		if err != nil {
			t.Fatalf("%s: %v", d.Name, err)
		}
		r.found[d.Name] = result.Anomalies
		t.Logf("%s: %d series, %d samples, %d anomalies", d.Name, result.Series, result.Samples, result.AnomalyCount)
	}
	return r
}

// nowhere keeps no lines.
type nowhere struct{}

func (nowhere) Append(context.Context, []model.LogLine) error { return nil }

const (
	newPatterns = "shop new log patterns"
	bursts      = "shop log bursts"
	silence     = "shop silent services"
)

// missed says which faults were not found, or not in time, and how many of the
// anomalies are of faults.
func (r shopRun) missed(faults []demo.Window) (faultsOf []string, told int) {
	for _, w := range faults {
		detector, within := newPatterns, model.LogBucket // a step
		switch w.Fault {
		case demo.FaultLogBurst:
			detector = bursts
		case demo.FaultLogSilent: // the step in which it falls silent still has lines
			detector, within = silence, 2*model.LogBucket
		}
		a, n := r.at(detector, w)
		told += n
		// A step ends at its sample, so that of the first line ends at most one step later.
		late, fired := a.StartedAt.Sub(r.began)-w.Start, a.FiredAt.Sub(a.StartedAt)
		switch {
		case n == 0:
			faultsOf = append(faultsOf, fmt.Sprintf("%s at %s is not found", w.Fault, w.Start))
		case late > within:
			faultsOf = append(faultsOf, fmt.Sprintf("%s at %s is found %s later, want at most %s", w.Fault, w.Start, late, within))
		case fired > 10*time.Second: // how long silence has to last
			faultsOf = append(faultsOf, fmt.Sprintf("%s at %s is told %s after it was found", w.Fault, w.Start, fired))
		}
	}
	return faultsOf, told
}

// The faults that only the lines of the demo's shop show are found by the
// detectors that come with it, in time, and nothing else is told.
func TestFaultsOfTheDemosLogsAreFound(t *testing.T) {
	t.Parallel()
	const length = 16 * time.Minute
	faults := demo.LogSchedule(1, length-time.Minute)
	r := runShop(t, length, faults)
	missed, told := r.missed(faults)
	for _, what := range missed {
		t.Error(what)
	}
	all := 0
	for name, found := range r.found {
		all += len(found)
		for _, a := range found {
			t.Logf("%s: %s after %s, %s", name, a.Series.Key(), a.StartedAt.Sub(r.began), a.Reason)
		}
	}
	if all > told {
		t.Errorf("%d anomalies, of which %d are of faults", all, told)
	}
}

// Hours of the shop's lines without a fault raise no alarm, day and night of
// its load included. As a control, the check of the test above misses each
// fault there.
func TestTheDemosLogsRaiseNoFalseAlarm(t *testing.T) {
	t.Parallel()
	length := 2 * time.Hour
	if testing.Short() {
		length = 20 * time.Minute
	}
	r := runShop(t, length, nil)
	for name, found := range r.found {
		for _, a := range found {
			t.Errorf("%s: %s after %s, %s", name, a.Series.Key(), a.StartedAt.Sub(r.began), a.Reason)
		}
	}
	if len(r.found) != 3 {
		t.Errorf("%d detectors on logs come with the demo, want 3", len(r.found))
	}
	faults := demo.LogSchedule(1, length)
	if missed, _ := r.missed(faults); len(missed) != len(faults) {
		t.Errorf("without any fault, %d of %d are missed", len(missed), len(faults))
	}
}
