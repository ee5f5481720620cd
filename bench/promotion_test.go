package bench

import (
	"bytes"
	"strings"
	"testing"
)

// The small corpus has no series with a steady rhythm: promotion changes nothing there,
// and what is counted adds up.
func TestPromotionOfASmallCorpus(t *testing.T) {
	t.Parallel()
	r, err := Promotion(t.Context(), PromotionOptions{Data: corpusDir(t), Datasets: []string{"CMD"}, Every: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Sets) != 1 || r.Sets[0].Series == 0 || r.Sets[0].Events == 0 || !(r.Sets[0].Weeks > 0) {
		t.Fatalf("%+v", r)
	}
	c := r.Sets[0]
	c.Auto.Seconds, c.Promoted.Seconds = 0, 0
	if c.InForce != 0 || c.Auto != c.Promoted || c.Auto.Found > c.Events {
		t.Errorf("%+v", c)
	}
	var out bytes.Buffer
	if err := r.WriteTable(&out); err != nil || !strings.Contains(out.String(), "CMD") {
		t.Errorf("%v\n%s", err, out.String())
	}
	if _, err := Promotion(t.Context(), PromotionOptions{Data: t.TempDir(), Datasets: []string{"CMD"}}); err == nil {
		t.Error("a folder without data is measured")
	}
}

// A promoted series whose odd beat has only usual values is found; the same series with auto
// alone, the control, is not.
func TestPromotionFindsTheOddBeat(t *testing.T) {
	t.Parallel()
	s := Series{Dataset: "UCR", Name: "beat", Train: 4000, Windows: []Span{{First: 6000, Last: 6029}}}
	for i := range 7000 {
		phase := i % 30
		if i >= 6000 && i < 6030 {
			phase = 29 - phase
		}
		s.T = append(s.T, int64(i)*60_000)
		s.V = append(s.V, float64(phase)+float64(i*7919%1009)/2000)
	}
	auto, _, err := promotionSide(t.Context(), s, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	promoted, inForce, err := promotionSide(t.Context(), s, 1, true)
	if err != nil || !inForce {
		t.Fatal(inForce, err)
	}
	if promoted.Top != 1 {
		t.Errorf("promoted: %+v", promoted)
	}
	if promoted.Found <= auto.Found && promoted.Top <= auto.Top {
		t.Errorf("auto %+v, promoted %+v: no difference", auto, promoted)
	}
}
