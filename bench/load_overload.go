package bench

import (
	"slices"
	"time"
)

// The speed of a machine changes from one moment to the next, so each overload
// is measured between two peaks, several times, the rates in turn.
const (
	loadRepetitions = 3
	loadProbes      = 200 // of /livez a second, so that their p99 is one
	loadControls    = 20  // acknowledgements a second: they cost a look at the database
)

// LoadOverload is one rate beyond what the server can serve.
type LoadOverload struct {
	Factor float64     `json:"factor"` // of the peak goodput before each slice
	Slices []LoadSlice `json:"slices"`

	Share      LoadSpread `json:"goodput_share"` // of the mean of the peaks before and after
	ShareOfCPU LoadSpread `json:"cpu_goodput"`   // Share if the server had got as much of its core as at these peaks: says more where other programs run
	ServedP99  LoadSpread `json:"served_p99_ms"`
	RefusedP99 LoadSpread `json:"refused_p99_ms"`
	LivezP99   LoadSpread `json:"livez_p99_ms"`
	ControlP99 LoadSpread `json:"acknowledge_p99_ms"`
	Failed     int64      `json:"failed"` // unanswered, or answered wrongly
	Lost       int64      `json:"lost"`   // probes and acknowledgements that failed or were refused
}

// LoadSlice is one measurement at one rate.
type LoadSlice struct {
	Before   LoadPeak   `json:"peak_before"`
	After    LoadPeak   `json:"peak_after"`
	Requests LoadResult `json:"requests"`
	CPU      float64    `json:"cpu"` // share of a core that the server got
	Livez    LoadResult `json:"livez"`
	Control  LoadResult `json:"acknowledge"`
}

// LoadPeak is what the server serves at most.
type LoadPeak struct {
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"cpu"` // share of a core that the server got
}

// LoadSpread is the median of several measurements, the least and the most.
type LoadSpread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spreadOf[T any](all []T, f func(T) float64) LoadSpread {
	values := make([]float64, len(all))
	for i, s := range all {
		values[i] = f(s)
	}
	slices.Sort(values)
	return LoadSpread{Median: values[len(values)/2], Least: values[0], Most: values[len(values)-1]}
}

// share is the goodput of the slice in peaks.
func (s LoadSlice) share() float64 {
	return s.Requests.Goodput / ((s.Before.PerSecond + s.After.PerSecond) / 2)
}

// shareOfCPU is share by processor time instead of time.
func (s LoadSlice) shareOfCPU() float64 {
	if s.CPU == 0 {
		return s.share()
	}
	return s.share() * (s.Before.CPU + s.After.CPU) / 2 / s.CPU
}

// peak returns what the server serves at most.
func (l *loadRun) peak(s *loadServer) (p LoadPeak) {
	began, before := time.Now(), cpuOf(s.pid())
	p.PerSecond = closedLoop(l.ctx, s.address, expensive, 4, l.o.For*3/10)
	p.CPU = float64(cpuOf(s.pid())-before) / float64(time.Since(began))
	return p
}

// overloads asks for factors times as much as the server can serve, in turn,
// and finds the peak again between each two.
func (l *loadRun) overloads(s *loadServer, factors ...float64) []LoadOverload {
	out := make([]LoadOverload, len(factors))
	before := l.peak(s)
	for range loadRepetitions {
		for i, factor := range factors {
			one := l.overload(s, factor, before)
			l.settle(s)
			one.After = l.peak(s)
			before = one.After
			out[i].Slices = append(out[i].Slices, one)
			l.say("%gx: goodput %.0f/s = %.0f %% of the peaks %.0f and %.0f/s (%.0f %% for the CPU it got, %.0f %% of a core), served p99 %.0f ms, refused p99 %.0f ms, failed %d; livez p99 %.0f ms, acknowledge p99 %.0f ms; generator late p99 %.0f ms",
				factor, one.Requests.Goodput, 100*one.share(), one.Before.PerSecond, one.After.PerSecond, 100*one.shareOfCPU(), 100*one.CPU,
				one.Requests.P99, one.Requests.RefusedP99, one.Requests.Failed, one.Livez.P99, one.Control.P99, one.Requests.LateP99)
		}
	}
	for i, factor := range factors {
		out[i].Factor = factor
		out[i].sum()
	}
	return out
}

// settle waits until nothing is left of an overload, 20 s at most: without the
// limiter the server goes on with what nobody waits for any longer.
func (l *loadRun) settle(s *loadServer) {
	for end := time.Now().Add(20 * time.Second); l.ctx.Err() == nil && time.Now().Before(end); liveSleep(l.ctx, 100*time.Millisecond) {
		began := time.Now()
		if a, err := s.raw(expensive); err == nil && a.status == 200 && time.Since(began) < 100*time.Millisecond {
			return
		}
	}
}

// sum fills in what the slices say together.
func (o *LoadOverload) sum() {
	o.Share, o.ShareOfCPU = spreadOf(o.Slices, LoadSlice.share), spreadOf(o.Slices, LoadSlice.shareOfCPU)
	o.ServedP99 = spreadOf(o.Slices, func(s LoadSlice) float64 { return s.Requests.P99 })
	o.RefusedP99 = spreadOf(o.Slices, func(s LoadSlice) float64 { return s.Requests.RefusedP99 })
	o.LivezP99 = spreadOf(o.Slices, func(s LoadSlice) float64 { return s.Livez.P99 })
	o.ControlP99 = spreadOf(o.Slices, func(s LoadSlice) float64 { return s.Control.P99 })
	for _, s := range o.Slices {
		o.Failed += s.Requests.Failed
		o.Lost += s.Livez.Failed + s.Livez.Refused + s.Control.Failed + s.Control.Refused
	}
}

// overload asks factor times as much as the server could serve just before.
func (l *loadRun) overload(s *loadServer, factor float64, before LoadPeak) LoadSlice {
	out := LoadSlice{Before: before}
	rate := max(1, factor*before.PerSecond)
	done := make(chan struct{}, 2)
	probe := func(to *LoadResult, target string, rate float64) {
		*to = openLoop(l.ctx, s.address, []string{target}, 50, rate, l.o.For, 5*time.Second)
		done <- struct{}{}
	}
	began, cpu := time.Now(), cpuOf(s.pid())
	go probe(&out.Livez, "GET /livez", loadProbes)
	go probe(&out.Control, "POST /api/v1/anomalies/none/acknowledge", loadControls)
	out.Requests = openLoop(l.ctx, s.address, []string{"GET " + expensive}, int(min(2500, max(100, 1.5*rate))), rate, l.o.For, patience)
	<-done
	<-done
	out.CPU = float64(cpuOf(s.pid())-cpu) / float64(time.Since(began))
	return out
}
