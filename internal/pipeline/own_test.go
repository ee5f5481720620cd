package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// fencedStore is a fakeStore that refuses what a deposed owner writes, unless it
// is a double without a fence.
type fencedStore struct {
	*fakeStore
	cluster *cluster
}

type fenceKey struct{}

// check is what the real store does in front of each write.
func (s *fencedStore) check(ctx context.Context) error {
	token, _ := ctx.Value(fenceKey{}).(int64)
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	if token == s.cluster.token {
		return nil
	}
	s.cluster.stale++
	if s.cluster.open {
		return nil
	}
	return model.Errorf(model.KindConflict, model.SubjectLease, "another node has taken the detector over")
}

func (s *fencedStore) CommitAnomalies(ctx context.Context, changes []model.AnomalyChange) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.fakeStore.CommitAnomalies(ctx, changes)
}

func (s *fencedStore) SaveSnapshot(ctx context.Context, snap model.Snapshot) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.fakeStore.SaveSnapshot(ctx, snap)
}

func (s *fencedStore) SaveModelVersion(ctx context.Context, v model.ModelVersion) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.fakeStore.SaveModelVersion(ctx, v)
}

// cluster says which of two engines owns the detector.
type cluster struct {
	mu     sync.Mutex
	owner  int // -1: nobody
	token  int64
	blind  int   // an engine that believes to be the owner still; -1: none
	seen   int64 // the token that it believes in
	unsure bool  // the owner may not write
	alone  bool  // because the database cannot be reached: it may score
	open   bool  // the fence is missing: the double of a control
	stale  int   // writes under a token that is not the newest
	report []byte
}

func (c *cluster) set(change func(*cluster)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

// side is the cluster as engine i sees it.
type side struct {
	*cluster
	i int
}

func (s side) Hold(string) (token int64, write, score bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.i {
	case s.blind:
		return s.seen, !s.alone, true
	case s.owner:
		return s.token, !s.unsure, !s.unsure || s.alone
	}
	return 0, false, false
}

func (s side) Fence(ctx context.Context, _ string, token int64) context.Context {
	return context.WithValue(ctx, fenceKey{}, token)
}

func (s side) Report(string) ([]byte, string, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner < 0 {
		return s.report, "", 0
	}
	return s.report, fmt.Sprint("node ", s.owner), 0
}

func (s side) Node() string { return fmt.Sprint("node ", s.i) }

// pair is two engines on one store, in a bubble of synctest.
type pair struct {
	*rig
	cluster *cluster
	engines []*Engine
	sources []*fakeSource // of each engine
	stops   []func()
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{rig: newRig(t, 2, testDetector(nil)), cluster: &cluster{owner: 0, token: 1, blind: -1}}
	return p
}

// begin starts both engines, which see the same series.
func (p *pair) begin() {
	for i := range 2 {
		src := &fakeSource{series: p.src.series, value: p.src.value, health: p.src.health, late: p.src.late}
		cfg := p.cfg
		cfg.Owner = side{p.cluster, i}
		e := New(cfg, &fencedStore{p.store, p.cluster}, func(model.Detector) (Source, bool) { return src, true }, slog.New(slog.DiscardHandler), nil, time.Now)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		p.engines, p.sources = append(p.engines, e), append(p.sources, src)
		p.stops = append(p.stops, func() {
			cancel()
			if err := <-done; err != nil {
				p.t.Error(err)
			}
		})
	}
	synctest.Wait()
}

func (p *pair) end() {
	for _, stop := range p.stops {
		stop()
	}
}

// move makes another engine the owner.
func (p *pair) move(to int) {
	p.cluster.set(func(c *cluster) { c.owner, c.token = to, c.token+1 })
	for _, e := range p.engines {
		e.Recheck([]string{"det_test"})
	}
	synctest.Wait()
}

// opened returns how often each anomaly was told to have opened.
func (p *pair) opened() map[string]int {
	out := map[string]int{}
	for _, e := range p.store.seen() {
		if kind, id, _ := strings.Cut(e, " "); kind == string(model.EventAnomalyOpened) {
			out[id]++
		}
	}
	return out
}

// Another engine goes on where the owner was, with the same anomaly, and the
// owner that lost it forgets it and writes nothing.
func TestOwnershipMoves(t *testing.T) {
	t.Parallel()
	var alone map[string]int
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		from := time.Now().Add(20 * time.Minute)
		p.src.value = spike(from, from.Add(time.Hour), 2000)
		p.begin()
		elapse(84 * time.Minute)
		p.end()
		alone = p.opened()
	})
	for _, orderly := range []bool{true, false} {
		t.Run(fmt.Sprint("orderly ", orderly), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				from := time.Now().Add(20 * time.Minute)
				p.src.value = spike(from, from.Add(time.Hour), 2000)
				p.begin()
				elapse(10 * time.Minute)
				if p.sources[0].asked() == 0 || p.sources[1].asked() != 0 {
					t.Fatalf("the sources were asked %d and %d times", p.sources[0].asked(), p.sources[1].asked())
				}
				elapse(12 * time.Minute) // the anomaly is open
				snapshots := len(p.store.snapshots)
				if orderly {
					if err := p.engines[0].HandOver(context.Background(), "det_test"); err != nil {
						t.Fatal(err)
					}
					if len(p.store.snapshots) != snapshots+1 {
						t.Error("no snapshot was written for the next owner")
					}
				}
				asked := p.sources[0].asked()
				p.move(1)
				elapse(2 * time.Minute)
				if n := p.sources[0].asked() - asked; n != 0 {
					t.Errorf("the former owner asked %d times more", n)
				}
				if s, _ := p.engines[1].Status("det_test"); s.State != model.DetectorRunning || s.OpenAnomalies == 0 || s.Node != "node 1" {
					t.Errorf("the new owner: %+v", s)
				}
				if p.engines[0].memory.Load() != 0 {
					t.Error("the former owner keeps memory")
				}
				p.move(0)
				elapse(time.Hour)
				p.end()
				opened := p.opened()
				for id, n := range opened {
					if n != 1 {
						t.Errorf("%s opened %d times", id, n)
					}
				}
				if len(opened) < 2 || fmt.Sprint(opened) != fmt.Sprint(alone) {
					t.Errorf("opened %v, and on one node %v", opened, alone)
				}
				if v := p.store.versions; len(v) != 1 {
					t.Errorf("a new owner learned anew: %+v", v)
				}
				if p.cluster.stale != 0 {
					t.Errorf("%d writes of a former owner", p.cluster.stale)
				}
			})
		})
	}
}

// deposedWrites lets an engine go on that has not noticed that it was deposed, as
// one that was paused does, and returns what it could write.
func deposedWrites(t *testing.T, open bool) (written, refused int) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		from := time.Now().Add(20 * time.Minute)
		p.src.value = spike(from, from.Add(time.Minute), 2000)
		p.cluster.open = open
		p.begin()
		elapse(19*time.Minute + 55*time.Second)
		p.cluster.set(func(c *cluster) { c.blind, c.seen = 0, c.token })
		p.cluster.set(func(c *cluster) { c.owner, c.token = -1, c.token+1 }) // the new owner is somewhere else
		snapshots, events := len(p.store.snapshots), len(p.store.seen())
		elapse(10 * time.Minute)
		written = len(p.store.snapshots) - snapshots + len(p.store.seen()) - events
		refused = p.cluster.stale
		asked := p.sources[0].asked()
		elapse(10 * time.Minute)
		if !open && p.sources[0].asked() != asked {
			t.Error("an engine that was refused goes on asking")
		}
		p.end()
	})
	return written, refused
}

func TestDeposedOwnerWritesNothing(t *testing.T) {
	t.Parallel()
	written, refused := deposedWrites(t, false)
	if written != 0 || refused == 0 {
		t.Errorf("a deposed owner wrote %d times and was refused %d times", written, refused)
	}
	// The control: without the fence the same engine writes.
	if written, _ := deposedWrites(t, true); written == 0 {
		t.Error("control: without a fence nothing is written either, so the test shows nothing")
	}
}

// An owner that cannot be sure waits with what it knows, and goes on from there.
func TestUnsureOwnerWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.begin()
		elapse(10 * time.Minute)
		asked, snapshots := p.sources[0].asked(), len(p.store.snapshots)
		p.cluster.set(func(c *cluster) { c.unsure = true })
		p.engines[0].Recheck([]string{"det_test"})
		elapse(time.Minute)
		if n := p.sources[0].asked() - asked; n > 1 {
			t.Errorf("it asked %d times while it was unsure", n)
		}
		if s, _ := p.engines[0].Status("det_test"); s.State != model.DetectorDegraded || !strings.Contains(s.LastError, "cannot reach the database") {
			t.Errorf("unsure: %+v", s)
		}
		if p.engines[0].memory.Load() == 0 {
			t.Error("it forgot what it knows")
		}
		p.cluster.set(func(c *cluster) { c.unsure = false })
		p.engines[0].Recheck([]string{"det_test"})
		elapse(15 * time.Second)
		if s, _ := p.engines[0].Status("det_test"); s.State != model.DetectorRunning || s.Lag > 20*time.Second {
			t.Errorf("sure again: %+v", s)
		}
		if len(p.store.versions) != 1 || len(p.store.snapshots) < snapshots {
			t.Errorf("versions %+v", p.store.versions)
		}
		p.end()
	})
}

// Whoever asks the node that does not evaluate a detector gets what the owner
// told and what is stored, up to the step that the owner has reached.
func TestOtherNodesAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.begin()
		if s, ok := p.engines[1].Status("det_test"); !ok || s.State != model.DetectorLearning {
			t.Errorf("before anything is told: %+v", s)
		}
		elapse(13 * time.Minute)
		told := p.engines[0].Report("det_test")
		p.cluster.set(func(c *cluster) { c.report = told })
		if b := p.engines[1].Report("det_test"); b != nil {
			t.Errorf("a node that does not own it tells %s", b)
		}
		here, _ := p.engines[0].Status("det_test")
		there, _ := p.engines[1].Status("det_test")
		here.LastEvaluatedAt, there.LastEvaluatedAt = here.LastEvaluatedAt.UTC(), there.LastEvaluatedAt.UTC()
		if fmt.Sprint(here) != fmt.Sprint(there) || there.Node != "node 0" {
			t.Errorf("status\n%+v\n%+v", here, there)
		}
		list, asOf, err := p.engines[1].Series("det_test", "", 10)
		if err != nil || len(list) != 2 {
			t.Fatalf("series %v %v", list, err)
		}
		_, newest, err := p.engines[0].Series("det_test", "", 10)
		if age := time.Since(asOf); err != nil || asOf.UnixMilli() != list[0].LastT || !newest.After(asOf) || age > 6*time.Minute || time.Since(newest) > time.Minute {
			t.Errorf("series as of %s, on the owner as of %s, at %s: %v", asOf, newest, time.Now(), err)
		}
		key := list[0].Labels.Key()
		to := time.Now()
		mine, err := p.engines[0].Replay(t.Context(), "det_test", key, to.Add(-10*time.Minute), to)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := p.engines[1].Replay(t.Context(), "det_test", key, to.Add(-10*time.Minute), to)
		if err != nil {
			t.Fatal(err)
		}
		if len(mine.Points) < 50 || len(mine.Points) != len(theirs.Points) {
			t.Fatalf("%d and %d points", len(mine.Points), len(theirs.Points))
		}
		for i, a := range mine.Points {
			// The bounds follow the threshold, whose changes since the snapshot
			// only the owner knows.
			if b := theirs.Points[i]; a.T != b.T || a.Value != b.Value || a.Expected != b.Expected || a.Score != b.Score || math.Abs(a.Upper-b.Upper) > 1 {
				t.Fatalf("point %d is %+v and %+v", i, a, b)
			}
		}
		samples := []model.Sample{{T: to.UnixMilli() + 60_000, V: 5000}}
		a, err := p.engines[0].Detect(t.Context(), "det_test", list[0].Labels, samples)
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.engines[1].Detect(t.Context(), "det_test", list[0].Labels, samples)
		if err != nil || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("scored %v and %v, %v", a, b, err)
		}
		if _, err := p.engines[1].Train(t.Context(), "det_test", time.Time{}, time.Time{}, nil); !IsElsewhere(err) {
			t.Errorf("training on a node that does not own it: %v", err)
		}
		if _, err := p.engines[1].Replay(t.Context(), "det_test", "{nobody=\"x\"}", to.Add(-time.Minute), to); model.KindOf(err) != model.KindNotFound {
			t.Errorf("an unknown series: %v", err)
		}
		if owns, known := p.engines[1].Owns("det_test"); owns || !known {
			t.Errorf("owns %v, known %v", owns, known)
		}
		p.cluster.set(func(c *cluster) { c.owner = -1 })
		if s, _ := p.engines[1].Status("det_test"); s.State != model.DetectorDegraded || !strings.Contains(s.LastError, "no node") {
			t.Errorf("without an owner: %+v", s)
		}
		p.end()
	})
}
