package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
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
		low, high float64 // exact
	}{{0, 0, 3.69}, {5, 1.62, 11.67}, {30, 20.24, 42.83}} {
		low, high := poissonInterval(c.n)
		if math.Abs(low-c.low) > 0.15 || math.Abs(high-c.high) > 0.15 {
			t.Errorf("%d: %.2f to %.2f, want %.2f to %.2f", c.n, low, high, c.low, c.high)
		}
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
		if c.Low > 1.5 || c.High < 0.5 {
			t.Errorf("%s, %d series, %g a week: %.2f times the budget (%.2f to %.2f)", c.Kind, c.Series, c.Budget, c.Ratio, c.Low, c.High)
		}
		t.Logf("%s, %d series, %g a week: %.2f (%.2f to %.2f), threshold %.2f for %.2f, %s", c.Kind, c.Series, c.Budget, c.Ratio, c.Low, c.High, c.Threshold, c.Asked, c.Basis)
	}
	if judged != 10 {
		t.Errorf("%d cells were judged", judged)
	}
	o.Alone, o.Kinds, o.Budgets = true, []string{"autocorrelated"}, []float64{1}
	if r, err = Budget(t.Context(), o); err != nil || !(r.Cells[0].Low > 1.5) {
		t.Errorf("scores taken at their word hold the budget: the measure is blind: %+v, %v", r.Cells, err)
	}
}
