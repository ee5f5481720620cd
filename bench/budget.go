package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"aiops/internal/detect"
	"aiops/internal/model"
)

const (
	budgetWarmWeeks = 8   // of history that a series has before alarms count
	leastExpected   = 8   // alarms that have to be expected for a cell to say anything
	budgetTurn      = 64  // steps after which thresholds are worked out anew, as in the pipeline
	budgetWorthy    = 400 // alarms to be expected that a cell is run for
)

// BudgetOptions say what Budget measures.
type BudgetOptions struct {
	Model   string        // "" is auto
	Kinds   []string      // empty: every kind of clean data
	Budgets []float64     // false alarms per week of the whole detector; empty: 0.1, 1 and 10
	Series  []int         // of the detector; empty: 1, 100 and 10,000
	Step    time.Duration // 0 is one hour
	Weeks   int           // that count, after eight of history; 0 is 88
	Most    int           // series that are generated where no detector has more; 0 is 1,000
	Alone   bool          // a control: take the scores of series at their word, without what they show together
	Seed    uint64
	// Progress, if set, is called after each kind, never at once.
	Progress func(done, total int)
}

// BudgetReport compares realised alarms on generated clean data with what was
// asked for.
type BudgetReport struct {
	Model string       `json:"model"`
	Step  string       `json:"step"`
	Weeks int          `json:"weeks"`
	Seed  uint64       `json:"seed"`
	Cells []BudgetCell `json:"cells"`
}

// BudgetCell is one kind of data with one budget and number of series. Alarms
// are episodes. Series are alike and independent. All detectors of a cell see
// the same series: of 10,000, a hundred detectors have a hundred each.
type BudgetCell struct {
	Kind      string      `json:"kind"`
	Budget    float64     `json:"false_alarms_per_week"`
	Series    int         `json:"series"`
	Detectors int         `json:"detectors"`
	Asked     float64     `json:"asked_threshold"` // for scores that are exact
	Threshold float64     `json:"threshold"`       // of the first detector, at the end
	Basis     string      `json:"basis"`           // of that
	Expected  float64     `json:"expected_alarms"`
	Alarms    int         `json:"alarms"`
	Ratio     model.Float `json:"ratio"` // realised ÷ expected; null where too few are expected
	Low       model.Float `json:"low"`   // exact 95 % interval of the ratio, for alarms that come independently
	High      model.Float `json:"high"`
	Held      Verdict     `json:"held"`
}

// Verdict says whether a ratio is between 0.5 and 1.5, and how surely.
type Verdict string

// The verdicts. What is sure has its whole interval on the same side of each of the bounds;
// for the others more weeks, detectors or another seed decide.
const (
	Held          Verdict = "yes"
	HeldPerhaps   Verdict = "yes, but not surely"
	MissedPerhaps Verdict = "no, but not surely"
	Missed        Verdict = "no"
	NotJudged     Verdict = "not enough"
)

// Budget runs a model on generated clean data and counts its alarms. Scores,
// thresholds and alarms come from the code that scores live; what a detector's
// series share is worked out between stretches of 64 steps, as the pipeline
// does. It starts one goroutine for each processor and returns when they have
// ended.
func Budget(ctx context.Context, o BudgetOptions) (BudgetReport, error) {
	o = o.withDefaults()
	kinds, err := kindsOf(o.Kinds)
	if err != nil {
		return BudgetReport{}, err
	}
	cells := make([][]BudgetCell, len(kinds))
	var mu sync.Mutex
	done := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range kinds {
		group.Go(func() error {
			var err error
			cells[i], err = o.measure(ctx, kinds[i])
			mu.Lock()
			defer mu.Unlock()
			if done++; o.Progress != nil {
				o.Progress(done, len(kinds))
			}
			return err
		})
	}
	err = group.Wait()
	return BudgetReport{Model: o.Model, Step: o.Step.String(), Weeks: o.Weeks, Seed: o.Seed, Cells: slices.Concat(cells...)}, err
}

// kindsOf returns the kinds with these names, all when there are none.
func kindsOf(names []string) ([]cleanKind, error) {
	all := append(slices.Clone(cleanKinds), mixture)
	if len(names) == 0 {
		return all, nil
	}
	var out []cleanKind
	for _, name := range names {
		i := slices.IndexFunc(all, func(k cleanKind) bool { return k.name == name })
		if i < 0 {
			var known []string
			for _, k := range all {
				known = append(known, k.name)
			}
			return nil, model.Errorf(model.KindInvalid, "", "%q is no kind of clean data; there are: %s", name, strings.Join(known, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func (o BudgetOptions) withDefaults() BudgetOptions {
	if o.Model == "" {
		o.Model = "auto"
	}
	if len(o.Budgets) == 0 {
		o.Budgets = []float64{0.1, 1, 10}
	}
	if len(o.Series) == 0 {
		o.Series = []int{1, 100, 10_000}
	}
	if o.Step <= 0 {
		o.Step = time.Hour
	}
	if o.Weeks <= 0 {
		o.Weeks = 88
	}
	if o.Most <= 0 {
		o.Most = 1000
	}
	return o
}

// budgetCell counts one cell while it is measured.
type budgetCell struct {
	*BudgetCell
	alarm     alarm
	detectors []budgetDetector
	states    []alarmState // by series
	clusters  []detect.Cluster
	tally     []detect.Tally // of the detector in hand, for each step of the stretch
}

// budgetDetector is what the series of one detector share.
type budgetDetector struct {
	exceed    detect.Exceedances
	threshold float64
}

// budgetSeries is one series.
type budgetSeries struct {
	model detect.Model
	next  func(i int) float64
}

// measure runs the series of one kind through all cells.
func (o BudgetOptions) measure(ctx context.Context, kind cleanKind) ([]BudgetCell, error) {
	cells, list := o.cells(kind.name)
	var series []budgetSeries
	for i := range o.generated() {
		m, err := detect.New(detect.Spec{Model: o.Model, Step: o.Step, Seed: uint64(i)})
		if err != nil {
			return nil, fmt.Errorf("making the model: %w", err)
		}
		series = append(series, budgetSeries{m, kind.make(rand.New(rand.NewPCG(o.Seed+uint64(i), 77)), o.Step)})
	}
	perWeek := int(7 * 24 * time.Hour / o.Step)
	warm, end := budgetWarmWeeks*perWeek, (budgetWarmWeeks+o.Weeks)*perWeek
	for from := 0; from < end; from += budgetTurn {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		to := min(from+budgetTurn, end)
		for i := range cells {
			cells[i].turn(o.Alone)
		}
		for s := range series {
			for i := from; i < to; i++ {
				at, v := int64(i)*o.Step.Milliseconds(), series[s].next(i)
				r := detect.Step(series[s].model, at, v)
				score := 0.0
				if detect.Gates(r, v, 0, "", model.MinDeviation{}) == detect.GateOpen {
					score = r.Score
				}
				for c := range cells {
					cells[c].take(s, i-from, score, r.Learning, i >= warm)
				}
			}
			for c := range cells {
				cells[c].close(s)
			}
		}
	}
	for i := range list {
		list[i].finish(cells[i])
	}
	return list, nil
}

// worthy is how many detectors a cell is worth.
func (o BudgetOptions) worthy(budget float64) int {
	return 1 + int(budgetWorthy/(budget*float64(o.Weeks)))
}

// generated is how many series there are: those of one detector of each size at
// least, more where the cells are worth it.
func (o BudgetOptions) generated() int {
	n := slices.Max(o.Series)
	for _, series := range o.Series {
		n = max(n, min(series*o.worthy(slices.Min(o.Budgets)), o.Most/series*series))
	}
	return n
}

// cells makes the cells of a kind.
func (o BudgetOptions) cells(kind string) ([]budgetCell, []BudgetCell) {
	var list []BudgetCell
	n := o.generated()
	for _, series := range o.Series {
		for _, budget := range o.Budgets {
			list = append(list, BudgetCell{Kind: kind, Budget: budget, Series: series, Asked: detect.Threshold(budget, o.Step, series),
				Detectors: min(n/series, o.worthy(budget))})
		}
	}
	cells := make([]budgetCell, len(list))
	for i := range list {
		c := &list[i]
		c.Expected = c.Budget * float64(o.Weeks*c.Detectors)
		cells[i] = budgetCell{BudgetCell: c, alarm: newAlarm(c.Budget/float64(c.Series), o.Step),
			detectors: make([]budgetDetector, c.Detectors), states: make([]alarmState, c.Detectors*c.Series),
			clusters: make([]detect.Cluster, c.Detectors*c.Series), tally: make([]detect.Tally, budgetTurn)}
	}
	return cells, list
}

// turn works the thresholds out for the steps that follow.
func (c *budgetCell) turn(alone bool) {
	for i := range c.detectors {
		d := &c.detectors[i]
		if d.threshold = c.Asked; alone {
			continue
		}
		d.exceed.Turn(c.Series)
		d.threshold = d.exceed.Threshold(c.Asked, c.Series)
	}
}

// take takes the score of a series at a step of the stretch.
func (c *budgetCell) take(series, step int, score float64, learning, counts bool) {
	if series >= len(c.states) {
		return
	}
	d := &c.detectors[series/c.Series]
	if !learning {
		d.exceed.Count(&c.tally[step], &c.clusters[series], score, c.alarm.keep)
	}
	if c.states[series].next(c.alarm, score > d.threshold) && counts {
		c.Alarms++
	}
}

// close ends the stretch of a series, and that of its detector when it was the
// last one.
func (c *budgetCell) close(series int) {
	if series >= len(c.states) || (series+1)%c.Series != 0 {
		return
	}
	for i := range c.tally {
		c.detectors[series/c.Series].exceed.Add(&c.tally[i])
	}
}

// finish says what was counted.
func (c *BudgetCell) finish(counted budgetCell) {
	first := &counted.detectors[0]
	c.Threshold, c.Basis = first.threshold, first.exceed.Basis(c.Asked).String()
	c.Ratio, c.Low, c.High, c.Held = model.Float(math.NaN()), model.Float(math.NaN()), model.Float(math.NaN()), NotJudged
	if c.Expected >= leastExpected {
		low, high := poissonInterval(c.Alarms)
		c.Ratio = model.Float(float64(c.Alarms) / c.Expected)
		c.Low, c.High = model.Float(low/c.Expected), model.Float(high/c.Expected)
		c.Held = c.verdict()
	}
}

// verdict judges the ratio.
func (c *BudgetCell) verdict() Verdict {
	const least, most = 0.5, 1.5
	switch {
	case c.High < least || c.Low > most:
		return Missed
	case c.Ratio < least || c.Ratio > most:
		return MissedPerhaps
	case c.Low < least || c.High > most:
		return HeldPerhaps
	}
	return Held
}

// poissonInterval is the exact 95 % interval of the mean behind a count (Garwood
// 1936), by halving; it takes about the root of n steps.
func poissonInterval(n int) (low, high float64) {
	const tail = 0.025
	find := func(beyond func(mean float64) bool) float64 {
		lo, hi := 0.0, float64(n)+4*math.Sqrt(float64(n))+5
		for range 60 {
			if mid := (lo + hi) / 2; beyond(mid) {
				hi = mid
			} else {
				lo = mid
			}
		}
		return (lo + hi) / 2
	}
	if n > 0 {
		low = find(func(mean float64) bool { return 1-poissonAtMost(n-1, mean) > tail })
	}
	return low, find(func(mean float64) bool { return poissonAtMost(n, mean) < tail })
}

// poissonAtMost is the probability of at most n where mean are expected, summed
// from the largest term on.
func poissonAtMost(n int, mean float64) float64 {
	const least = 1e-15 // of the sum, in one term
	start := math.Min(float64(n), math.Floor(mean))
	lgamma, _ := math.Lgamma(start + 1)
	first := math.Exp(start*math.Log(mean) - mean - lgamma)
	sum := first
	for k, term := start, first; k > 0 && term > least*sum; k-- {
		term *= k / mean
		sum += term
	}
	for k, term := start+1, first; k <= float64(n) && term > least*sum; k++ {
		term *= mean / k
		sum += term
	}
	return sum
}

// WriteTable prints a row for each kind, number of series and budget.
func (r BudgetReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s, step %s, %d weeks, seed %d: alarms realised ÷ asked for (exact 95 %% interval), where at least %d are expected\n", r.Model, r.Step, r.Weeks, r.Seed, leastExpected)
	fmt.Fprintln(t, "data\tseries\tbudget a week\tasked\tthreshold\tit is\texpected\talarms\tratio\tinterval\tbetween 0.5 and 1.5")
	count := map[Verdict]int{}
	for _, c := range r.Cells {
		count[c.Held]++
		fmt.Fprintf(t, "%s\t%d\t%g\t%.2f\t%.2f\t%s\t%.1f\t%d\t%.2f\t%.2f to %.2f\t%s\n", c.Kind, c.Series, c.Budget, c.Asked, c.Threshold, c.Basis, c.Expected, c.Alarms,
			float64(c.Ratio), float64(c.Low), float64(c.High), c.Held)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d cells: %d held, %d of these surely; %d missed, %d of these surely; %d with too few alarms expected\n", len(r.Cells),
		count[Held]+count[HeldPerhaps], count[Held], count[Missed]+count[MissedPerhaps], count[Missed], count[NotJudged])
	return err
}

// WriteJSON writes the report.
func (r BudgetReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }
