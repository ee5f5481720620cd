package pipeline

import (
	"testing"

	"aiops/internal/model"
)

// What an episode begins with is kept from the model; what lasts is learned,
// so that a new level stops alarming.
func TestAnEpisodeHoldsLearningForAWhile(t *testing.T) {
	t.Parallel()
	r := rules{forSamples: 1, keepSamples: 1, dampSamples: 10, holdSamples: leastHold, updateEvery: 60_000}
	point := model.ScoredPoint{T: 1000, Value: 9, Score: 9, Anomalous: true}
	var none *episode
	if none.holdsLearning(r) {
		t.Error("learning is held without an episode")
	}
	e, _ := begin(r, nil, point, 5)
	held := 0
	for range 3 * leastHold {
		if e.holdsLearning(r) {
			held++
		}
		point.T += 1000
		e.observe(r, point, verdictAnomalous, 5)
	}
	if held != leastHold {
		t.Errorf("%d samples were held, want %d", held, leastHold)
	}
}
