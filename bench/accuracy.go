// Package bench measures this program on a machine: how accurate its detectors
// are on labelled series, how fast they are, and how well log lines are grouped.
//
// It owns the measures and the way data is fed, causally and without labels.
// It refuses to tune anything: a measure never reaches a detector. Results are
// deterministic except for times. Nothing here is needed to run the program.
package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"aiops/internal/detect"
	"aiops/internal/model"
)

const (
	halfSplits   = 5   // seeded splits of the split-half score
	ucrTolerance = 100 // rows around a labelled region that still count
)

// AccuracyOptions say what Accuracy measures.
type AccuracyOptions struct {
	Data               string   // the folder that holds NAB/, CMD/, TODS/, more.tar.xz and meta.csv
	Models             []string // empty: every model that needs no parameters
	Datasets           []string // empty: all
	Every              int      // only every n-th series of a data set; 0 is 1. NAB and CMD are always whole
	FalseAlarmsPerWeek float64  // 0 is 1
	Workers            int      // 0: as many as processors
	// Progress, if set, is called after each scored series, never at once.
	Progress func(done, total int)
}

// AccuracyReport is what Accuracy found.
type AccuracyReport struct {
	Series             int             `json:"series"`
	Samples            int             `json:"samples"`
	FalseAlarmsPerWeek float64         `json:"false_alarms_per_week"`
	Models             []ModelAccuracy `json:"models"`
}

// ModelAccuracy is what one model reached. Measures without data are null.
type ModelAccuracy struct {
	Model        string                        `json:"model"`
	NAB          map[string]model.Float        `json:"nab"`            // by profile
	NABThreshold map[string]model.Float        `json:"nab_threshold"`  // of anomaly_score, by profile
	NABSplitHalf model.Float                   `json:"nab_split_half"` // standard profile, threshold from the other half
	VUSPR        map[string]model.Float        `json:"vus_pr"`         // by data set
	UCR          model.Float                   `json:"ucr_accuracy"`
	FalseAlarms  map[string]FalseAlarmAccuracy `json:"false_alarms"` // by data set
	SamplesPerS  model.Float                   `json:"samples_per_second"`
	SizeBytes    int                           `json:"size_bytes"` // largest over all series
	PerSeries    []SeriesAccuracy              `json:"per_series"`
}

// FalseAlarmAccuracy compares alarms outside labelled windows with the budget.
type FalseAlarmAccuracy struct {
	Median model.Float `json:"median_ratio"` // over series, of alarms a week ÷ budget
	Total  model.Float `json:"total_ratio"`  // of all alarms in all weeks ÷ budget
	Weeks  model.Float `json:"weeks"`
}

// SeriesAccuracy is what a model reached on one series.
type SeriesAccuracy struct {
	Dataset     string      `json:"dataset"`
	Name        string      `json:"name"`
	VUSPR       model.Float `json:"vus_pr"`
	UCR         model.Float `json:"ucr"` // 1 found, 0 missed
	NAB         model.Float `json:"nab"` // standard, at the threshold of the corpus
	FalseAlarms int         `json:"false_alarms"`
	Weeks       model.Float `json:"weeks"`
	Algorithm   string      `json:"algorithm"`
	why         string
	scores      []float64
	seconds     float64
	size        int
}

// Accuracy runs every model causally over every series and measures it. The
// detectors see timestamps and values only. It starts Workers goroutines and
// returns when they have ended; ctx stops it early.
func Accuracy(ctx context.Context, o AccuracyOptions) (AccuracyReport, error) {
	corpus, err := loadCorpus(o.Data, o.Datasets)
	if err != nil {
		return AccuracyReport{}, err
	}
	corpus = everyNth(corpus, o.Every)
	if o.FalseAlarmsPerWeek <= 0 {
		o.FalseAlarmsPerWeek = 1
	}
	if len(o.Models) == 0 {
		o.Models = accuracyModels()
	}
	report := AccuracyReport{Series: len(corpus), FalseAlarmsPerWeek: o.FalseAlarmsPerWeek}
	for _, s := range corpus {
		report.Samples += len(s.V)
	}
	results := make([][]SeriesAccuracy, len(o.Models))
	for i := range results {
		results[i] = make([]SeriesAccuracy, len(corpus))
	}
	if err := scoreCorpus(ctx, o, corpus, results); err != nil {
		return AccuracyReport{}, err
	}
	for i, name := range o.Models {
		report.Models = append(report.Models, summarise(name, corpus, results[i], o.FalseAlarmsPerWeek))
	}
	return report, nil
}

// accuracyModels are the models that learn: fixed bounds have no accuracy, and
// neither have values that are no surprises.
func accuracyModels() []string {
	var names []string
	for _, info := range detect.Names() {
		if info.Name != "threshold" && info.Name != "surprise" {
			names = append(names, info.Name)
		}
	}
	return names
}

// everyNth thins out the large data sets.
func everyNth(corpus []Series, n int) []Series {
	if n <= 1 {
		return corpus
	}
	var kept []Series
	seen := map[string]int{}
	for _, s := range corpus {
		if s.Dataset == "NAB" || s.Dataset == "CMD" || seen[s.Dataset]%n == 0 {
			kept = append(kept, s)
		}
		seen[s.Dataset]++
	}
	return kept
}

// scoreCorpus fills results[model][series].
func scoreCorpus(ctx context.Context, o AccuracyOptions, corpus []Series, results [][]SeriesAccuracy) error {
	g, ctx := errgroup.WithContext(ctx)
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g.SetLimit(workers)
	finished := make(chan struct{})
	counted := make(chan struct{})
	go func() { // the only caller of Progress
		defer close(counted)
		done := 0
		for range finished {
			done++
			if o.Progress != nil {
				o.Progress(done, len(corpus)*len(o.Models))
			}
		}
	}()
	for m, name := range o.Models {
		for i := range corpus {
			g.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				r, err := scoreSeries(ctx, name, corpus[i], o.FalseAlarmsPerWeek)
				if err != nil {
					return fmt.Errorf("scoring %s/%s with %s: %w", corpus[i].Dataset, corpus[i].Name, name, err)
				}
				results[m][i] = r
				finished <- struct{}{}
				return nil
			})
		}
	}
	err := g.Wait()
	close(finished)
	<-counted
	return err
}

// scoreSeries runs one model over one series and takes the measures that need
// nothing else.
func scoreSeries(ctx context.Context, name string, series Series, budget float64) (SeriesAccuracy, error) {
	head := make([]inputRow, min(len(series.T), stepRows+1))
	for i := range head {
		head[i].t = series.T[i]
	}
	s := &scorer{step: medianStep(head)}
	var err error
	if s.model, err = detect.New(detect.Spec{Model: name, Step: s.step}); err != nil {
		return SeriesAccuracy{}, err
	}
	s.start(budget, "")
	r := SeriesAccuracy{Dataset: series.Dataset, Name: series.Name, scores: make([]float64, len(series.V)),
		VUSPR: model.Float(math.NaN()), UCR: model.Float(math.NaN()), NAB: model.Float(math.NaN())}
	inside := make([]bool, len(series.V))
	for _, w := range series.Windows {
		for i := w.First; i <= w.Last; i++ {
			inside[i] = true
		}
	}
	start := measuredFrom(series)
	began := time.Now()
	alarmed := false
	for i, v := range series.V {
		if i%4096 == 0 && ctx.Err() != nil {
			return SeriesAccuracy{}, ctx.Err()
		}
		p := s.next(series.T[i], v)
		r.scores[i] = p.score()
		if p.anomaly && !alarmed && i >= start && !inside[i] {
			r.FalseAlarms++
		}
		alarmed = p.anomaly
	}
	r.seconds = time.Since(began).Seconds()
	r.size = s.model.SizeBytes()
	r.Algorithm, r.why = s.model.Describe()
	outside := 0
	for i := start; i < len(inside); i++ {
		if !inside[i] {
			outside++
		}
	}
	r.Weeks = model.Float(float64(outside) * s.step.Hours() / (7 * 24))
	r.measure(series)
	return r, nil
}

// measuredFrom is the row at which the measures begin.
func measuredFrom(s Series) int {
	if s.Dataset == "NAB" {
		return nabProbation(len(s.V))
	}
	return s.Train
}

// measure takes the measures of a single series.
func (r *SeriesAccuracy) measure(series Series) {
	switch series.Dataset {
	case "NAB":
	case "UCR":
		best := series.Train
		for i := series.Train; i < len(r.scores); i++ {
			if r.scores[i] > r.scores[best] {
				best = i
			}
		}
		for _, w := range series.Windows {
			if w.First >= series.Train {
				r.UCR = 0
			}
		}
		for _, w := range series.Windows {
			if w.First >= series.Train && best >= w.First-ucrTolerance && best <= w.Last+ucrTolerance {
				r.UCR = 1
			}
		}
	default:
		r.VUSPR = model.Float(VUSPR(r.scores[series.Train:], series.Label[series.Train:], vusWindow(series.V)))
	}
}

// summarise turns the results of one model into its line of the report.
func summarise(name string, corpus []Series, results []SeriesAccuracy, budget float64) ModelAccuracy {
	m := ModelAccuracy{Model: name, NAB: map[string]model.Float{}, NABThreshold: map[string]model.Float{},
		VUSPR: map[string]model.Float{}, FalseAlarms: map[string]FalseAlarmAccuracy{},
		NABSplitHalf: model.Float(math.NaN()), PerSeries: results}
	var nab []NABSeries
	vus, ratios := map[string][]float64{}, map[string][]float64{}
	alarms, weeks := map[string]float64{}, map[string]float64{}
	var ucr []float64
	var seconds, samples float64
	for i, r := range results {
		seconds += r.seconds
		samples += float64(len(r.scores))
		m.SizeBytes = max(m.SizeBytes, r.size)
		if r.Dataset == "NAB" {
			nab = append(nab, NABSeries{Scores: r.scores, Windows: corpus[i].Windows})
		}
		if v := float64(r.VUSPR); v == v {
			vus[r.Dataset] = append(vus[r.Dataset], v)
		}
		if v := float64(r.UCR); v == v {
			ucr = append(ucr, v)
		}
		if w := float64(r.Weeks); w > 0 {
			ratios[r.Dataset] = append(ratios[r.Dataset], float64(r.FalseAlarms)/w/budget)
			alarms[r.Dataset] += float64(r.FalseAlarms)
			weeks[r.Dataset] += w
		}
	}
	m.SamplesPerS = model.Float(samples / seconds)
	m.UCR = model.Float(mean(ucr))
	for d, v := range vus {
		m.VUSPR[d] = model.Float(mean(v))
	}
	for d, v := range ratios {
		sort.Float64s(v)
		m.FalseAlarms[d] = FalseAlarmAccuracy{Median: model.Float((v[len(v)/2] + v[(len(v)-1)/2]) / 2),
			Total: model.Float(alarms[d] / weeks[d] / budget), Weeks: model.Float(weeks[d])}
	}
	if len(nab) > 0 {
		m.measureNAB(nab)
	}
	for i := range results {
		results[i].scores = nil
	}
	return m
}

// measureNAB takes the measures over the whole of NAB.
func (m *ModelAccuracy) measureNAB(nab []NABSeries) {
	for _, p := range NABProfiles() {
		threshold, score := NABOptimise(nab, p)
		m.NAB[p.Name], m.NABThreshold[p.Name] = model.Float(score), model.Float(threshold)
	}
	standard := NABProfiles()[0]
	m.NABSplitHalf = model.Float(nabSplitHalf(nab, standard))
	k := 0
	for i := range m.PerSeries {
		if m.PerSeries[i].Dataset == "NAB" {
			if len(nab[k].Windows) > 0 {
				m.PerSeries[i].NAB = model.Float(NABScore(nab[k:k+1], standard, float64(m.NABThreshold["standard"])))
			}
			k++
		}
	}
}

// nabSplitHalf is the mean over seeded splits of the score on one half of the
// files with the threshold that is best on the other.
func nabSplitHalf(nab []NABSeries, p NABProfile) float64 {
	var sum float64
	for seed := range uint64(halfSplits) {
		order := rand.New(rand.NewPCG(seed, 58)).Perm(len(nab))
		var half [2][]NABSeries
		for i, at := range order {
			half[i%2] = append(half[i%2], nab[at])
		}
		threshold, _ := NABOptimise(half[0], p)
		sum += NABScore(half[1], p, threshold)
	}
	return sum / halfSplits
}

func mean(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	var sum float64
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}
