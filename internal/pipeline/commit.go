package pipeline

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"aiops/internal/model"
)

// emit turns a transition into a change for the store. It is called while the
// core advances, by whoever has the turn.
func (r *runner) emit(s *series, tr transition, t int64, note string) {
	c := r.core
	r.e.metrics.transitions.WithLabelValues(tr.String()).Inc()
	change := model.AnomalyChange{Anomaly: c.anomaly(s, t, note)}
	switch tr {
	case transitionFired:
		change.Event = model.EventAnomalyOpened
	case transitionUpdated:
		change.Event = model.EventAnomalyUpdated
	case transitionResolved:
		change.Event = model.EventAnomalyResolved
	}
	// A pending episode is written without an event and without evidence: it
	// is no alarm yet, and most of them end as none.
	if tr != transitionPending && tr != transitionCancelled {
		change.Evidence = c.evidence(s, change.Anomaly.ID)
		c.dropProof(s.episode)
	}
	r.pending = append(r.pending, change)
	r.pendingBytes += evidenceBytes(change.Evidence)
}

// evidenceBytes is about what an evidence takes in memory.
func evidenceBytes(e *model.Evidence) int64 {
	if e == nil {
		return 0
	}
	return int64(len(e.Definition) + len(e.ModelState) + len(e.Context)*int(unsafe.Sizeof(model.ScoredPoint{})) + len(e.Contributions)*int(unsafe.Sizeof(model.Contribution{})))
}

// anomaly describes the episode of s as it is after step t.
func (c *core) anomaly(s *series, t int64, note string) model.Anomaly {
	e, d := s.episode, c.def.detector
	labels, err := model.ParseSeriesKey(s.key)
	if err != nil {
		panic("BUG: a series key cannot be read back: " + err.Error())
	}
	// As rare as the scores of all series together show, where that is known.
	once := onceIn(c.exceed.Real(e.peak.Score, c.quota), d.Step)
	a := model.Anomaly{
		ID: anomalyID(d.ID, s.key, e.startedAt), DetectorID: d.ID, DetectorName: d.Name, Series: labels,
		State: model.AnomalyPending, Severity: e.severity.model(),
		StartedAt: msTime(e.startedAt), FiredAt: msTime(e.firedAt), ResolvedAt: msTime(e.endedAt), PeakAt: msTime(e.peak.T),
		Value: e.peak.Value, Expected: e.peak.Expected, Lower: e.peak.Lower, Upper: e.peak.Upper, Score: e.peak.Score,
		OnceInSeconds: once, Reason: reasonText(e, d, labels.Value(model.JointLabel), once, float64(e.peak.T-s.since)/1000),
		DetectorVersion: d.Version, ModelVersion: c.modelVersion, UpdatedAt: msTime(t),
	}
	if d.Log != nil && d.Log.Severity != "" {
		a.Severity = d.Log.Severity
	}
	switch {
	case e.endedAt != 0:
		a.State = model.AnomalyResolved
		if e.firedAt == 0 {
			note = "ended before it lasted long enough to be an alarm"
		}
	case e.phase == phaseFiring:
		a.State = model.AnomalyFiring
	}
	if note != "" {
		a.Reason += "; " + note
	}
	return a
}

// commit hands pending changes to the store, in order. It reports whether none
// is left and the store may be written to. Without wait it gives the store a moment
// only; what is not acknowledged by then goes on beside the loop.
func (r *runner) commit(ctx context.Context, wait bool) bool {
	if r.alone {
		return false
	}
	if wait {
		_ = r.landed(true) // what failed is tried again below
	}
	for {
		if err := r.landed(wait); err != nil {
			r.waits(err)
			return false
		}
		n := min(len(r.pending), commitBatch)
		if n == 0 {
			return true
		}
		batch := r.pending[:n:n]
		r.write(ctx, commitWithin, func(ctx context.Context) error { return r.e.store.CommitAnomalies(ctx, batch) },
			func(err error) error { return r.committed(n, err) })
		if r.e.silent() {
			r.flight.late.Store(true) // it is not waited for, and tried all the same: a slow store is not a dead one
		}
	}
}

// waits shows that changes wait for the store.
func (r *runner) waits(err error) {
	if len(r.pending) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.trouble = "anomalies wait to be stored: " + safeText(err)
}

// committed takes over what became of the first n pending changes.
func (r *runner) committed(n int, err error) error {
	if r.deposed(err) {
		return err
	}
	if err != nil && !r.drops(err, n) {
		r.e.metrics.holds.WithLabelValues(holdStore).Inc()
		r.log.Warn("anomalies were not stored; trying again", "waiting", len(r.pending), "err", err)
		return err
	}
	r.turn.do(func() {
		for _, change := range r.pending[:n] {
			r.pendingBytes -= evidenceBytes(change.Evidence)
		}
		clear(r.pending[:n])
		r.pending = r.pending[n:]
		if len(r.pending) == 0 {
			r.pending = nil
		}
	})
	return nil
}

// drops decides whether changes can never be stored.
func (r *runner) drops(err error, n int) bool {
	var e *model.Error
	if !errors.As(err, &e) {
		return false
	}
	switch {
	case e.Kind == model.KindNotFound && e.Subject == model.SubjectDetector:
		r.log.Info("the detector is gone; its last anomalies are not stored", "anomalies", n)
		return true
	case e.Kind == model.KindInvalid:
		r.log.Error("BUG: the store refuses anomalies as invalid; they are lost", "anomalies", n, "err", err)
		return true
	}
	return false
}

// compare brings the open anomalies of the store and the open episodes of the
// core together, after a start: what was ended by hand is muted, what the core
// does not know is ended, what the store does not know is written.
func (r *runner) compare(ctx context.Context) error {
	var stored []model.Anomaly
	err := r.brief(ctx, func(ctx context.Context) (err error) {
		stored, err = r.e.store.OpenAnomalies(ctx, r.id)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading open anomalies: %w", err)
	}
	unknown := make(map[string]model.Anomaly, len(stored))
	for _, a := range stored {
		unknown[a.ID] = a
	}
	var absent []*series
	r.turn.do(func() {
		for id, s := range r.core.openEpisodes() {
			if _, ok := unknown[id]; ok {
				delete(unknown, id)
			} else {
				absent = append(absent, s)
			}
		}
	})
	for _, s := range absent {
		if err := r.settle(ctx, s); err != nil {
			return err
		}
	}
	r.turn.do(func() {
		for _, a := range unknown {
			a.State, a.ResolvedAt = model.AnomalyResolved, msTime(r.core.watermark)
			a.Reason += "; ended because the detector learned anew and does not see it any more"
			r.pending = append(r.pending, model.AnomalyChange{Anomaly: a, Event: model.EventAnomalyResolved})
			r.e.metrics.transitions.WithLabelValues(transitionResolved.String()).Inc()
		}
	})
	r.commit(ctx, false)
	return nil
}

// settle decides about an open episode that the store does not list as open.
func (r *runner) settle(ctx context.Context, s *series) error {
	var id string
	r.turn.do(func() { id = anomalyID(r.id, s.key, s.episode.startedAt) })
	var a model.Anomaly
	err := r.brief(ctx, func(ctx context.Context) (err error) {
		a, err = r.e.store.Anomaly(ctx, id)
		return err
	})
	switch {
	case err == nil && a.State == model.AnomalyResolved:
		r.turn.do(func() { r.core.mute(s) })
	case model.KindOf(err) == model.KindNotFound:
		r.turn.do(func() { r.emit(s, openTransition(s.episode), r.core.watermark, "") })
	case err != nil:
		return fmt.Errorf("reading an anomaly: %w", err)
	}
	return nil
}

// openEpisodes returns the series with an open episode by the anomaly's id.
func (c *core) openEpisodes() map[string]*series {
	open := map[string]*series{}
	for _, s := range c.series {
		if s != nil && s.episode != nil && s.episode.open() {
			open[anomalyID(c.def.detector.ID, s.key, s.episode.startedAt)] = s
		}
	}
	return open
}

func (c *core) mute(s *series) {
	if s.episode != nil && s.episode.open() {
		c.dropProof(s.episode)
		s.episode.mute()
		c.open--
	}
}
