package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

// outage makes the database unreachable for the owner, or ends that.
func (p *pair) outage(away bool) {
	p.cluster.set(func(c *cluster) { c.unsure, c.alone = away, away })
	p.cut(away)
	for _, e := range p.engines {
		e.Recheck([]string{"det_test"})
	}
	synctest.Wait()
}

// cut makes the store fail, whether or not the owner knows of it already, or ends that.
func (p *pair) cut(away bool) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	p.store.fail = nil
	if away {
		p.store.fail = model.WrapError(model.KindDatabase, "", errors.New("connection refused"), "the database does not answer")
	}
}

func (p *pair) commits() int {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.store.commits
}

// waiting returns how many changes wait on engine i, and whether it has a model.
func (p *pair) waiting(i int) (changes int, model bool) {
	p.t.Helper()
	r, err := p.engines[i].runner("det_test")
	if err != nil {
		p.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status.waiting, r.status.watermark != 0
}

// An owner that cannot reach the database scores on in memory: points come with
// every step, an anomaly that begins and one that ends meanwhile are told
// afterwards, once, as without the outage, and a replay sees what was live.
func TestOwnerScoresWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	var want, got string
	for _, disturbed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t)
			start := time.Now()
			first := spike(start.Add(20*time.Minute), start.Add(21*time.Minute+30*time.Second), 2000)
			second := spike(start.Add(22*time.Minute), start.Add(30*time.Minute), 3000)
			p.src.value = func(i int, ms int64) (float64, bool) {
				if ms < start.Add(22*time.Minute).UnixMilli() {
					return first(i, ms)
				}
				return second(i, ms)
			}
			look := &lookers{got: map[string][]model.ScoredPoint{}}
			p.cfg.Audience = look
			p.begin()
			elapse(21 * time.Minute)
			list, _, err := p.engines[0].Series("det_test", "", 10)
			if err != nil || len(list) == 0 {
				t.Fatal(err)
			}
			key := list[0].Labels.Key()
			look.look(key)
			commits := p.commits()
			if disturbed {
				p.outage(true)
			}
			elapse(2 * time.Minute)
			live := look.look(key)[key]
			if len(live) < 11 {
				t.Errorf("%d points in two minutes, disturbed %v", len(live), disturbed)
			}
			if disturbed {
				if p.commits() != commits {
					t.Error("something was written without a database")
				}
				if s, _ := p.engines[0].Status("det_test"); s.State != model.DetectorDegraded || s.Lag > 20*time.Second || s.OpenAnomalies == 0 ||
					!strings.Contains(s.LastError, "cannot reach the database") {
					t.Errorf("without a database: %+v", s)
				}
				p.outage(false)
				elapse(time.Second)
				if s, _ := p.engines[0].Status("det_test"); s.State != model.DetectorRunning {
					t.Errorf("with the database back: %+v", s)
				}
			}
			replay, err := p.engines[0].Replay(t.Context(), "det_test", key, msTime(live[0].T), msTime(live[len(live)-1].T))
			if err != nil || len(replay.Points) != len(live) {
				t.Fatalf("%d points live, %d in the replay: %v", len(live), len(replay.Points), err)
			}
			for i, a := range live {
				if b := replay.Points[i]; a.T != b.T || a.Score != b.Score || a.Expected != b.Expected {
					t.Errorf("live %+v, replay %+v", a, b)
				}
			}
			elapse(30 * time.Minute)
			p.end()
			want = got
			got = fmt.Sprint(p.opened())
			for id, n := range p.opened() {
				if n != 1 {
					t.Errorf("%s opened %d times", id, n)
				}
			}
			if len(p.opened()) < 2 || p.cluster.stale != 0 {
				t.Errorf("opened %v, %d writes under an old token", p.opened(), p.cluster.stale)
			}
		})
	}
	if want != got {
		t.Errorf("with an outage %s opened, without %s", got, want)
	}
}

// In the seconds until the owner knows that the database is away, a detector
// about whose models something was announced is scored with every step all the
// same; what was announced is looked at afterwards.
func TestNothingWaitsForTheActiveVersionWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.begin()
		elapse(10 * time.Minute)
		r, err := p.engines[0].runner("det_test")
		if err != nil {
			t.Fatal(err)
		}
		asked := p.sources[0].asked()
		p.cut(true)
		for range 6 {
			r.recheck()
			elapse(10 * time.Second)
		}
		s, _ := p.engines[0].Status("det_test")
		if n := p.sources[0].asked() - asked; n < 5 || s.State != model.DetectorRunning {
			t.Errorf("%d steps of 10 s were asked for in a minute: %+v", n, s)
		}
		if _, check, _ := r.wanted(); !check {
			t.Error("what was announced is forgotten")
		}
		r.recheck()
		p.cut(false)
		elapse(20 * time.Second)
		if _, check, _ := r.wanted(); check {
			t.Error("what was announced is not looked at with the database back")
		}
		p.end()
	})
}

// When another node has taken the detector over meanwhile, what was found alone
// is dropped, and nothing of it was written: the other one tells it.
func TestWhatWasFoundAloneIsDroppedForAnotherOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		from := time.Now().Add(20 * time.Minute)
		p.src.value = spike(from, from.Add(time.Hour), 2000)
		p.begin()
		elapse(19*time.Minute + 55*time.Second)
		// Only the way of node 0 is cut; node 1 takes over.
		p.cluster.set(func(c *cluster) { c.alone, c.blind, c.seen = true, 0, c.token })
		p.cluster.set(func(c *cluster) { c.owner, c.token = 1, c.token+1 })
		p.engines[1].Recheck([]string{"det_test"})
		elapse(2 * time.Minute)
		if n, _ := p.waiting(0); n == 0 {
			t.Fatal("nothing was found alone: the test shows nothing")
		}
		p.cluster.set(func(c *cluster) { c.alone, c.blind = false, -1 })
		p.engines[0].Recheck([]string{"det_test"})
		elapse(time.Minute)
		if n, model := p.waiting(0); n != 0 || model || p.engines[0].memory.Load() != 0 {
			t.Errorf("what was found alone is kept: %d changes", n)
		}
		if p.cluster.stale != 0 {
			t.Errorf("%d writes under an old token", p.cluster.stale)
		}
		opened := p.opened()
		for id, n := range opened {
			if n != 1 {
				t.Errorf("%s opened %d times", id, n)
			}
		}
		if len(opened) == 0 {
			t.Error("the new owner tells nothing")
		}
		p.end()
	})
}

// What waits is bounded: with the buffer full the owner waits, too, and fills the
// gap afterwards.
func TestOwnerAloneWaitsWithAFullBuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.begin()
		elapse(10 * time.Minute)
		p.outage(true)
		elapse(30 * time.Second)
		r, err := p.engines[0].runner("det_test")
		if err != nil {
			t.Fatal(err)
		}
		fill := func(bytes int64) {
			if _, err := ask(t.Context(), r, func(context.Context) (struct{}, error) {
				r.pendingBytes += bytes
				return struct{}{}, nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		fill(maxPendBytes)
		asked := p.sources[0].asked()
		elapse(2 * time.Minute)
		if n := p.sources[0].asked() - asked; n != 0 {
			t.Errorf("it asked %d times with a full buffer", n)
		}
		fill(-maxPendBytes)
		p.outage(false)
		elapse(15 * time.Second)
		if s, _ := p.engines[0].Status("det_test"); s.State != model.DetectorRunning || s.Lag > 20*time.Second {
			t.Errorf("afterwards: %+v", s)
		}
		p.end()
	})
}
