package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

// A loose budget on one series has to be held; a z-score that forgets nothing
// of a trend, the control, does not hold it.
func TestBudgetCountsAlarms(t *testing.T) {
	t.Parallel()
	o := BudgetOptions{Model: "ewma", Kinds: []string{"normal"}, Budgets: []float64{1, 10}, Series: []int{1}, PerCell: time.Minute}
	r, err := Budget(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Cells) != 2 {
		t.Fatalf("%d cells", len(r.Cells))
	}
	for _, c := range r.Cells {
		if c.Expected < budgetExpected-1 || c.Alarms == 0 || !(c.Low < c.Ratio && c.Ratio < c.High) {
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
