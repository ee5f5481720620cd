package store

import (
	"context"
	"testing"
	"time"

	"aiops/internal/model"
)

// A claim that could not be ended, because the database was away then, does not
// block its key: a while later the request may be sent again, unless it had an
// effect.
func TestClaimsThatCouldNotBeEnded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx := t.Context()
	key := func(name string) model.IdempotencyKey {
		return model.IdempotencyKey{Principal: "ada", Key: name, Operation: "POST /detectors", BodyHash: "abc"}
	}
	claim := func(name string, want model.IdempotencyState) {
		t.Helper()
		if st, _, err := s.BeginIdempotent(ctx, key(name)); err != nil || st != want {
			t.Errorf("claiming %s is %v, %v; want %v", name, st, err, want)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for _, name := range []string{"without effect", "with effect", "served"} {
		claim(name, model.IdempotencyFresh)
	}
	if _, err := s.CreateDetector(s.WithClaim(ctx, key("with effect")), model.Detector{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"without effect", "with effect"} {
		if err := s.FinishIdempotent(gone, key(name), nil); err == nil {
			t.Fatal("a claim was ended without a database")
		}
		claim(name, model.IdempotencyInProgress) // the request may still be ending it
	}
	s.claims.mu.Lock()
	for id, at := range s.claims.failed {
		if !at.IsZero() {
			s.claims.failed[id] = at.Add(-abandonedAfter)
		}
	}
	s.claims.mu.Unlock()
	claim("without effect", model.IdempotencyFresh)
	claim("without effect", model.IdempotencyInProgress)
	claim("with effect", model.IdempotencyUnanswered)
	claim("served", model.IdempotencyInProgress)
	// A claim that was written although its caller was told otherwise.
	if _, _, err := s.BeginIdempotent(gone, key("never known")); err == nil {
		t.Fatal("a claim was made without a database")
	}
	claim("never known", model.IdempotencyFresh)
	if err := s.FinishIdempotent(ctx, key("never known"), nil); err != nil {
		t.Fatal(err)
	}
	s.claims.prune(time.Now().Add(time.Hour))
	s.claims.mu.Lock()
	defer s.claims.mu.Unlock()
	if n := len(s.claims.failed); n != 2 {
		t.Errorf("%d claims are remembered, want the 2 that are served", n)
	}
}
