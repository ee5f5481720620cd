package bench

import (
	"context"
	"fmt"
	"io"
	"math"
	"runtime"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// promotionEvery is how many rows lie between two decisions, as in the pipeline.
const promotionEvery = 256

// PromotionOptions say what Promotion measures.
type PromotionOptions struct {
	Data               string
	Datasets           []string // empty: AIOPS, WSD and UCR, whose series have steps below an hour
	Every              int      // only every n-th series of a data set; 0 is 1
	FalseAlarmsPerWeek float64  // 0 is 1
}

// PromotionReport compares "auto" with "auto" that is promoted to "deep" wherever that is possible.
type PromotionReport struct {
	FalseAlarmsPerWeek float64         `json:"false_alarms_per_week"`
	Sets               []PromotionCell `json:"sets"`
}

// PromotionCell is what both reached on the series of one data set.
type PromotionCell struct {
	Dataset  string        `json:"dataset"`
	Series   int           `json:"series"`
	InForce  int           `json:"in_force"` // series whose patterns counted at some time
	Weeks    model.Float   `json:"weeks"`    // outside of labelled windows
	Events   int           `json:"events"`   // labelled windows
	Auto     PromotionSide `json:"auto"`
	Promoted PromotionSide `json:"promoted"`
}

// PromotionSide counts alarms by the threshold that the budget gives one series.
type PromotionSide struct {
	Found       int         `json:"found"`        // events with an alarm in them
	FalseAlarms int         `json:"false_alarms"` // that began outside of them
	Top         int         `json:"top"`          // series whose highest score lies in an event
	Seconds     model.Float `json:"seconds"`
}

// Promotion scores each series twice, from its first row on: with "auto", and with the same model that the
// pipeline's rule promotes and demotes, as if there were a place for every series.
func Promotion(ctx context.Context, o PromotionOptions) (PromotionReport, error) {
	if len(o.Datasets) == 0 {
		o.Datasets = []string{"AIOPS", "WSD", "UCR"}
	}
	if o.FalseAlarmsPerWeek <= 0 {
		o.FalseAlarmsPerWeek = 1
	}
	corpus, err := loadCorpus(o.Data, o.Datasets)
	if err != nil {
		return PromotionReport{}, err
	}
	corpus = everyNth(corpus, o.Every)
	cells := make([]PromotionCell, len(corpus))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range corpus {
		g.Go(func() (err error) {
			c := &cells[i]
			c.Dataset, c.Series = s.Dataset, 1
			if c.Auto, _, err = promotionSide(ctx, s, o.FalseAlarmsPerWeek, false); err != nil {
				return fmt.Errorf("scoring %s/%s: %w", s.Dataset, s.Name, err)
			}
			var inForce bool
			if c.Promoted, inForce, err = promotionSide(ctx, s, o.FalseAlarmsPerWeek, true); err != nil {
				return fmt.Errorf("scoring %s/%s: %w", s.Dataset, s.Name, err)
			}
			if inForce {
				c.InForce = 1
			}
			c.Events = len(measuredWindows(s))
			c.Weeks = model.Float(outsideWeeks(s))
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return PromotionReport{}, err
	}
	report := PromotionReport{FalseAlarmsPerWeek: o.FalseAlarmsPerWeek}
	at := map[string]int{}
	for _, c := range cells {
		k, ok := at[c.Dataset]
		if !ok {
			k = len(report.Sets)
			at[c.Dataset] = k
			report.Sets = append(report.Sets, PromotionCell{Dataset: c.Dataset})
		}
		report.Sets[k].add(c)
	}
	return report, nil
}

func (c *PromotionCell) add(o PromotionCell) {
	c.Series, c.InForce, c.Weeks, c.Events = c.Series+o.Series, c.InForce+o.InForce, c.Weeks+o.Weeks, c.Events+o.Events
	c.Auto.add(o.Auto)
	c.Promoted.add(o.Promoted)
}

func (p *PromotionSide) add(o PromotionSide) {
	p.Found, p.FalseAlarms, p.Top, p.Seconds = p.Found+o.Found, p.FalseAlarms+o.FalseAlarms, p.Top+o.Top, p.Seconds+o.Seconds
}

// measuredWindows are the labelled windows behind the rows for training.
func measuredWindows(s Series) []Span {
	var out []Span
	for _, w := range s.Windows {
		if w.First >= measuredFrom(s) {
			out = append(out, w)
		}
	}
	return out
}

func outsideWeeks(s Series) float64 {
	rows := len(s.V) - measuredFrom(s)
	for _, w := range measuredWindows(s) {
		rows -= w.Last - w.First + 1
	}
	return float64(rows) * medianStepOf(s).Hours() / (7 * 24)
}

func medianStepOf(s Series) time.Duration {
	head := make([]inputRow, min(len(s.T), stepRows+1))
	for i := range head {
		head[i].t = s.T[i]
	}
	return medianStep(head)
}

// promotionSide scores one series, and reports whether its patterns counted.
func promotionSide(ctx context.Context, series Series, budget float64, promote bool) (out PromotionSide, inForce bool, err error) {
	s := &scorer{step: medianStepOf(series)}
	if s.model, err = detect.New(detect.Spec{Model: "auto", Step: s.step}); err != nil {
		return out, false, err
	}
	s.start(budget, "")
	rule := promotionRule{step: s.step}
	windows, start := measuredWindows(series), measuredFrom(series)
	inside := make([]bool, len(series.V))
	slack := 0
	if series.Dataset == "UCR" {
		slack = ucrTolerance
	}
	for _, w := range windows {
		for i := max(0, w.First-slack); i <= min(len(inside)-1, w.Last+slack); i++ {
			inside[i] = true
		}
	}
	found := make([]bool, len(windows))
	began, alarmed, best, bestAt := time.Now(), false, math.Inf(-1), -1
	for i, v := range series.V {
		if i%promotionEvery == 0 {
			if err := ctx.Err(); err != nil {
				return out, false, err
			}
			if promote {
				rule.decide(s.model, int64(i))
			}
		}
		p := s.next(series.T[i], v)
		inForce = inForce || detect.DepthOf(s.model).InForce
		if i >= start {
			if r := p.result.Score; r > best {
				best, bestAt = r, i
			}
			if p.anomaly && !alarmed && !inside[i] {
				out.FalseAlarms++
			}
			for k, w := range windows {
				found[k] = found[k] || p.anomaly && i >= w.First-slack && i <= w.Last+slack
			}
		}
		alarmed = p.anomaly
	}
	out.Seconds = model.Float(time.Since(began).Seconds())
	for _, f := range found {
		if f {
			out.Found++
		}
	}
	if bestAt >= 0 && inside[bestAt] {
		out.Top = 1
	}
	return out, inForce, nil
}

// promotionRule is who is promoted when, for a series that always has a place.
type promotionRule struct {
	step  time.Duration
	tried int64 // row at which the last trial ended; 0: none did
}

func (r *promotionRule) decide(m detect.Model, row int64) {
	trial := detect.TrialSamples(r.step)
	switch d := detect.DepthOf(m); {
	case d.Promoted && !d.Steady && d.Samples >= trial:
		detect.Demote(m)
		r.tried = row
	case !d.Promoted && row > 0 && (r.tried == 0 || row-r.tried >= detect.TrialAgain*trial):
		detect.Promote(m, r.step)
	}
}

// WriteTable writes the report for people.
func (r PromotionReport) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "auto, and auto promoted to deep wherever possible; budget %g false alarms a week on one series\n\n", r.FalseAlarmsPerWeek)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "set\tseries\tin force\tweeks\tevents\tfound\tpromoted\tfalse alarms\tpromoted\ttop in event\tpromoted\tseconds\tpromoted\t")
	for _, c := range r.Sets {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.0f\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t\n", c.Dataset, c.Series, c.InForce, c.Weeks, c.Events,
			c.Auto.Found, c.Promoted.Found, c.Auto.FalseAlarms, c.Promoted.FalseAlarms, c.Auto.Top, c.Promoted.Top, c.Auto.Seconds, c.Promoted.Seconds)
	}
	return t.Flush()
}

// WriteJSON writes the report for programs.
func (r PromotionReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }
