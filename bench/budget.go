package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"aiops/internal/detect"
	"aiops/internal/model"
)

const (
	budgetWarmWeeks = 8  // of history that a series has before alarms count
	budgetWeeks     = 44 // that count of each generated series
	budgetExpected  = 30 // alarms that a cell is run for
	leastExpected   = 8  // alarms that have to be expected for a cell to say anything
)

// BudgetOptions say what Budget measures.
type BudgetOptions struct {
	Model   string        // "" is auto
	Kinds   []string      // empty: every kind of clean data
	Budgets []float64     // false alarms per week of the whole detector; empty: 0.1, 1 and 10
	Series  []int         // of the detector; empty: 1, 100 and 10,000
	Step    time.Duration // 0 is one hour
	PerCell time.Duration // processor time that one cell may take; 0 is 30 s
	Seed    uint64
	// Progress, if set, is called after each cell, never at once.
	Progress func(done, total int)
}

// BudgetReport compares realised alarms on generated clean data with what was
// asked for.
type BudgetReport struct {
	Model string       `json:"model"`
	Step  string       `json:"step"`
	Cells []BudgetCell `json:"cells"`
}

// BudgetCell is one kind of data with one budget and number of series. Alarms
// are episodes. Series are alike and independent, so that the number of series
// enters through the threshold, and as many of them are run as it takes to
// expect 30 alarms, or as the time allows.
type BudgetCell struct {
	Kind         string      `json:"kind"`
	Budget       float64     `json:"false_alarms_per_week"`
	Series       int         `json:"series"`
	Threshold    float64     `json:"threshold"`
	Expected     float64     `json:"expected_alarms"`
	Alarms       int         `json:"alarms"`
	Ratio        model.Float `json:"ratio"` // realised ÷ expected; null where too few are expected
	Low          model.Float `json:"low"`   // 95 % interval of the ratio
	High         model.Float `json:"high"`
	Extrapolated model.Float `json:"extrapolated"` // share of alarms that say they are
}

// Budget runs a model on generated clean data and counts its alarms. It starts
// one goroutine for each processor and returns when they have ended.
func Budget(ctx context.Context, o BudgetOptions) (BudgetReport, error) {
	o = o.withDefaults()
	report := BudgetReport{Model: o.Model, Step: o.Step.String()}
	for _, kind := range cleanKinds {
		if len(o.Kinds) > 0 && !slices.Contains(o.Kinds, kind.name) {
			continue
		}
		for _, series := range o.Series {
			for _, budget := range o.Budgets {
				report.Cells = append(report.Cells, BudgetCell{Kind: kind.name, Budget: budget, Series: series,
					Threshold: detect.Threshold(budget, o.Step, series)})
			}
		}
	}
	var mu sync.Mutex
	done := 0
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := range report.Cells {
		group.Go(func() error {
			err := o.measure(ctx, &report.Cells[i])
			mu.Lock()
			defer mu.Unlock()
			if done++; o.Progress != nil {
				o.Progress(done, len(report.Cells))
			}
			return err
		})
	}
	return report, group.Wait()
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
	if o.PerCell <= 0 {
		o.PerCell = 30 * time.Second
	}
	return o
}

// measure runs as many series as the cell needs and counts.
func (o BudgetOptions) measure(ctx context.Context, c *BudgetCell) error {
	perWeek := int(7 * 24 * time.Hour / o.Step)
	share := c.Budget / float64(c.Series) // alarms a week that one series is allowed
	deadline := time.Now().Add(o.PerCell)
	extrapolated := 0
	for n := uint64(0); c.Expected < budgetExpected && (n == 0 || time.Now().Before(deadline)); n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := detect.New(detect.Spec{Model: o.Model, Step: o.Step, Seed: n})
		if err != nil {
			return fmt.Errorf("making the model: %w", err)
		}
		s := scorer{model: m, step: o.Step}
		s.start(c.Budget/float64(c.Series), "")
		next := kindOf(c.Kind).make(rand.New(rand.NewPCG(o.Seed+n, 77)), o.Step)
		weeks := budgetWeeks
		if need := int(math.Ceil((budgetExpected - c.Expected) / share)); need < weeks {
			weeks = max(1, need)
		}
		before := 0
		for i := range (budgetWarmWeeks + weeks) * perWeek {
			if i == budgetWarmWeeks*perWeek {
				before = s.sum.Alarms
			}
			was := s.sum.Alarms
			p := s.next(int64(i)*o.Step.Milliseconds(), next(i))
			if s.sum.Alarms > was && i >= budgetWarmWeeks*perWeek && p.result.Extrapolated {
				extrapolated++
			}
		}
		c.Alarms += s.sum.Alarms - before
		c.Expected += share * float64(weeks)
	}
	c.Ratio, c.Low, c.High, c.Extrapolated = model.Float(math.NaN()), model.Float(math.NaN()), model.Float(math.NaN()), model.Float(math.NaN())
	if c.Alarms > 0 {
		c.Extrapolated = model.Float(float64(extrapolated) / float64(c.Alarms))
	}
	if c.Expected >= leastExpected {
		low, high := poissonInterval(c.Alarms)
		c.Ratio = model.Float(float64(c.Alarms) / c.Expected)
		c.Low, c.High = model.Float(low/c.Expected), model.Float(high/c.Expected)
	}
	return nil
}

// poissonInterval is about the 95 % interval of the mean behind a count: the
// cube-root approximation of Wilson and Hilferty to the exact one.
func poissonInterval(n int) (low, high float64) {
	const z = 1.96
	k := float64(n)
	if n > 0 {
		low = k * math.Pow(1-1/(9*k)-z/(3*math.Sqrt(k)), 3)
	}
	k++
	return low, k * math.Pow(1-1/(9*k)+z/(3*math.Sqrt(k)), 3)
}

// WriteTable prints a row for each kind and number of series, with the ratio of
// realised to asked-for alarms for each budget.
func (r BudgetReport) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s, step %s: alarms realised ÷ asked for (95 %% interval), where at least %d are expected\n", r.Model, r.Step, leastExpected)
	fmt.Fprintln(t, "data\tseries\tbudget a week\tthreshold\texpected\talarms\tratio\tinterval\textrapolated\tbetween 0.5 and 1.5")
	for _, c := range r.Cells {
		verdict := "not enough"
		if !math.IsNaN(float64(c.Ratio)) {
			verdict = "no"
			if c.Ratio >= 0.5 && c.Ratio <= 1.5 {
				verdict = "yes"
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%g\t%.2f\t%.1f\t%d\t%.2f\t%.2f to %.2f\t%.2f\t%s\n", c.Kind, c.Series, c.Budget, c.Threshold, c.Expected, c.Alarms,
			float64(c.Ratio), float64(c.Low), float64(c.High), float64(c.Extrapolated), verdict)
	}
	return t.Flush()
}

// WriteJSON writes the report.
func (r BudgetReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }
