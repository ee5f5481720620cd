package store

import (
	"context"
	"runtime"
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

// A caller that gave up while its claim was about to be written leaves nothing behind that
// blocks the key.
func TestClaimWrittenAfterItsCallerLeft(t *testing.T) {
	t.Parallel()
	s := setup(t)
	key := model.IdempotencyKey{Principal: "ada", Key: "late", Operation: "POST /detectors", BodyHash: "abc"}
	blocked := func(started, release chan struct{}) {
		_ = s.commit(context.Background(), "holding the writer", func(context.Context, *tx) error {
			close(started)
			<-release
			return nil
		})
	}
	started, release := [2]chan struct{}{make(chan struct{}), make(chan struct{})}, [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	go blocked(started[0], release[0])
	<-started[0]
	// Both wait now, and are written as one batch.
	go blocked(started[1], release[1])
	for len(s.queue) < 1 {
		runtime.Gosched()
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, _, err := s.BeginIdempotent(ctx, key)
		left <- err
	}()
	for len(s.queue) < 2 {
		runtime.Gosched()
	}
	close(release[0])
	<-started[1]
	cancel()
	if err := <-left; err == nil {
		t.Fatal("the caller had left before the claim was written")
	}
	close(release[1])
	if st, _, err := s.BeginIdempotent(t.Context(), key); err != nil || st != model.IdempotencyInProgress {
		t.Fatalf("claiming it at once is %v, %v; want that it may be in progress still", st, err)
	}
	s.claims.mu.Lock()
	for id, at := range s.claims.failed {
		if !at.IsZero() {
			s.claims.failed[id] = at.Add(-abandonedAfter)
		}
	}
	s.claims.mu.Unlock()
	if st, _, err := s.BeginIdempotent(t.Context(), key); err != nil || st != model.IdempotencyFresh {
		t.Errorf("claiming it 10 s later is %v, %v; want fresh", st, err)
	}
}
