package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// A loose budget on one series has to be held; a z-score that forgets nothing
// of a trend, the control, does not hold it.
func TestBudgetCountsAlarms(t *testing.T) {
	t.Parallel()
	o := BudgetOptions{Model: "ewma", Kinds: []string{"normal"}, Budgets: []float64{1, 10}, Series: []int{1}}
	r, err := Budget(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 2 {
		t.Fatalf("%d cells", len(r.Cells))
	}
	for _, c := range r.Cells {
		if c.Alarms == 0 || !(c.Low < c.Ratio && c.Ratio < c.High) {
			t.Errorf("%+v", c)
		}
	}
	again, err := Budget(t.Context(), o)
	if err != nil || again.Cells[0].Alarms != r.Cells[0].Alarms {
		t.Errorf("another run counts %d alarms instead of %d: %v", again.Cells[0].Alarms, r.Cells[0].Alarms, err)
	}
	o.Kinds = []string{"normal", "heavy"}
	if _, err := Budget(t.Context(), o); model.KindOf(err) != model.KindInvalid || !strings.Contains(err.Error(), "heavy tails") {
		t.Errorf("a kind that there is not: %v", err)
	}
	o.Kinds = o.Kinds[:1]
	o.Model = "threshold"
	if _, err := Budget(t.Context(), o); err == nil {
		t.Error("a model that needs bounds ran without any")
	}
	var table, encoded bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !bytes.Contains(table.Bytes(), []byte("normal")) {
		t.Errorf("table: %v\n%s", err, table.String())
	}
	if err := r.WriteJSON(&encoded); err != nil || !json.Valid(encoded.Bytes()) {
		t.Errorf("JSON: %v", err)
	}
}

func TestPoissonInterval(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n         int
		low, high float64
	}{{0, 0, 3.6889}, {5, 1.6235, 11.6683}, {30, 20.2409, 42.8269}, {100, 81.3639, 121.6273}, {10_000, 9804.96, 10197.93}} {
		low, high := poissonInterval(c.n)
		if math.Abs(low-c.low) > 1e-4*(1+c.low) || math.Abs(high-c.high) > 1e-4*c.high {
			t.Errorf("%d: %.4f to %.4f, want %.4f to %.4f", c.n, low, high, c.low, c.high)
		}
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		alarms int
		want   Verdict
	}{{0, Missed}, {4, MissedPerhaps}, {5, HeldPerhaps}, {10, HeldPerhaps}, {16, MissedPerhaps}, {28, Missed}} {
		cell := BudgetCell{Expected: 10, Alarms: c.alarms}
		low, high := poissonInterval(c.alarms)
		cell.Ratio, cell.Low, cell.High = model.Float(float64(c.alarms)/10), model.Float(low/10), model.Float(high/10)
		if got := cell.verdict(); got != c.want {
			t.Errorf("%d of 10: %q instead of %q", c.alarms, got, c.want)
		}
	}
	cell := BudgetCell{Ratio: 1, Low: 0.9, High: 1.1}
	if got := cell.verdict(); got != Held {
		t.Errorf("0.9 to 1.1: %q", got)
	}
}

// Many series: budgets that ask for more than the history of one series shows are
// held by what the series show together. The control takes each score at its word
// and breaks the budget.
func TestBudgetOfManySeries(t *testing.T) {
	t.Parallel()
	o := BudgetOptions{Budgets: []float64{10, 1}, Series: []int{100}, Weeks: 16, Most: 300, Seed: 3}
	r, err := Budget(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	judged := 0
	for _, c := range r.Cells {
		if math.IsNaN(float64(c.Ratio)) {
			continue
		}
		judged++
		// The quick form is about as sure as its counts: what is told apart from the
		// allowed range fails.
		if c.Held == Missed {
			t.Errorf("%s, %d series, %g a week: %.2f times the budget (%.2f to %.2f)", c.Kind, c.Series, c.Budget, c.Ratio, c.Low, c.High)
		}
		t.Logf("%s, %d series, %g a week: %.2f (%.2f to %.2f), threshold %.2f for %.2f, %s", c.Kind, c.Series, c.Budget, c.Ratio, c.Low, c.High, c.Threshold, c.Asked, c.Basis)
	}
	if judged != 2*(len(cleanKinds)+1) {
		t.Errorf("%d cells were judged", judged)
	}
	o.Alone, o.Kinds, o.Budgets = true, []string{"autocorrelated"}, []float64{1}
	if r, err = Budget(t.Context(), o); err != nil || !(r.Cells[0].Low > 1.5) {
		t.Errorf("scores taken at their word hold the budget: the measure is blind: %+v, %v", r.Cells, err)
	}
}

// A fault on one series is found beside many faulty ones: 5 % of the series of a
// detector, broken for hours every week and each time worse, do not raise its threshold so far that
// ten deviations in a single sample elsewhere are missed. They begin when the record has just
// forgotten what young series showed and weigh most. Three deviations, the control, are missed.
func TestFaultBesideFaultySeries(t *testing.T) {
	t.Parallel()
	const series, steps, faulty = 200, 2200, 20
	normal := cleanKinds[0]
	found := func(broken int) (threshold float64, alarms, large, small int) {
		o := BudgetOptions{Model: "auto", Series: []int{series}, Budgets: []float64{1}, Step: time.Hour, Weeks: 1}
		cells, _ := o.withDefaults().cells(normal.name)
		cell := &cells[0]
		all := make([]budgetSeries, series)
		for i := range all {
			m, err := detect.New(detect.Spec{Model: o.Model, Step: o.Step})
			if err != nil {
				t.Fatal(err)
			}
			all[i] = budgetSeries{m, normal.make(rand.New(rand.NewPCG(uint64(i), 99)), o.Step)}
		}
		for from := 0; from < steps; from += budgetTurn {
			cell.turn(false)
			for s := range all {
				for i := from; i < min(from+budgetTurn, steps); i++ {
					v := all[s].next(i)
					if s%faulty == 0 && s/faulty < broken && i > 1600 && (i+31*s)%170 < 6 {
						v += 20 * math.Pow(2, float64((i-1600)/170)) // so that the series does not get used to it
					}
					r := detect.Step(all[s].model, int64(i)*o.Step.Milliseconds(), v)
					cell.take(s, i-from, r.Score, r.Learning, true)
				}
				cell.close(s)
			}
		}
		alarms = cell.Alarms
		threshold = cell.detectors[0].threshold
		for s := range all {
			if s%faulty == 0 {
				continue
			}
			at := int64(steps) * o.Step.Milliseconds()
			if all[s].model.Score(at, 110).Score > threshold {
				large++
			}
			if all[s].model.Score(at, 103).Score > threshold {
				small++
			}
		}
		return threshold, alarms, large, small
	}
	calm, few, before, _ := found(0)
	threshold, many, large, small := found(series / faulty)
	healthy := series - series/faulty
	t.Logf("threshold %.2f beside faulty series, %.2f without; ten deviations found on %d and %d of %d series, three on %d", threshold, calm, large, before, healthy, small)
	if many < few+series/faulty {
		t.Errorf("%d alarms with faulty series, %d without: they are not faulty", many, few)
	}
	if threshold > calm+1 {
		t.Errorf("5 %% of faulty series raise the threshold from %.2f to %.2f", calm, threshold)
	}
	if large < healthy*9/10 {
		t.Errorf("ten deviations are found on %d of %d series, %d where none is faulty", large, healthy, before)
	}
	if small > healthy/4 {
		t.Errorf("three deviations are found on %d of %d series: anything is", small, healthy)
	}
}
