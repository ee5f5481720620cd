package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"aiops/internal/model"
)

// Bounds of one query.
const (
	chunkSamples = 1 << 20 // samples that one query of history may return, as far as can be foreseen
	chunkSteps   = 11_000
	firstChunk   = 16
	sliceSamples = 200_000 // samples scored before others get a turn
	historySlow  = 2       // how much longer than a live query one of history may take
)

// feeder brings a core forward over a range that is too long for one query. It
// finds out by itself how much to ask for at once.
type feeder struct {
	e     *Engine
	class class
	turn  turn   // of the runner that owns the core; nil: nobody else sees it
	only  string // the key of the only series to score; "": all
	read  bool   // for somebody who looks, so the source may answer from memory
	steps int    // of the next query; 0: not known yet
	fails int
}

// chunk brings c one query closer to to. Steps up to gapUntil may lie in an
// outage of the source.
func (f *feeder) chunk(ctx context.Context, c *core, to, gapUntil int64) error {
	def := c.def
	src, err := f.source(def.detector)
	if err != nil {
		return err
	}
	if f.steps == 0 {
		f.steps = firstChunk
	}
	from := c.watermark + def.step
	until := min(to, from+int64(f.steps-1)*def.step)
	place, err := f.e.enter(ctx, f.class, def.detector, nil)
	if err != nil {
		return err
	}
	defer place.leave()
	data, err := f.e.query(ctx, src, def, from, until, historySlow)
	if err != nil {
		return f.smaller(err)
	}
	if h := src.Health(); !trusted(h.State) {
		return sourceError(def.detector.Source, h)
	}
	f.fails = 0
	found := len(data)
	if f.only != "" {
		data = pick(data, f.only)
	}
	if err := f.advance(ctx, c, until, data, gapUntil); err != nil {
		return err
	}
	f.fit(max(found, c.live))
	return nil
}

func (f *feeder) source(d model.Detector) (Source, error) {
	if f.read && f.e.cfg.Reading != nil {
		if src, ok := f.e.cfg.Reading(d); ok {
			return src, nil
		}
	}
	return f.e.source(d)
}

// pick returns the series with this key alone.
func pick(data []model.SeriesData, key string) []model.SeriesData {
	var buf []byte
	for i := range data {
		if buf = data[i].Labels.AppendKey(buf[:0]); string(buf) == key {
			return data[i : i+1]
		}
	}
	return nil
}

// advance scores an answer in slices, so that whoever wants to look at the
// core does not wait long.
func (f *feeder) advance(ctx context.Context, c *core, until int64, data []model.SeriesData, gapUntil int64) error {
	for c.watermark < until {
		steps := max(1, sliceSamples/max(1, c.live, len(data)))
		err := f.slice(ctx, c, min(until, c.watermark+int64(steps)*c.def.step), data, gapUntil)
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *feeder) slice(ctx context.Context, c *core, until int64, data []model.SeriesData, gapUntil int64) error {
	if f.turn != nil {
		if err := f.turn.lockCtx(ctx); err != nil {
			return err
		}
		defer f.turn.unlock()
	}
	c.closed = f.e.memoryUsedUp()
	before := c.samples
	err := c.advance(ctx, until, data, gapUntil)
	f.e.metrics.samples.Add(float64(c.samples - before))
	return err
}

// fit chooses how many steps the next query asks for: it grows towards what
// the number of series allows.
func (f *feeder) fit(series int) {
	f.steps = min(8*f.steps, stepsFor(series))
}

// stepsFor is how many steps of that many series one query may ask for.
func stepsFor(series int) int {
	return min(chunkSteps, max(1, chunkSamples/max(1, series)))
}

// smaller asks for less after an error that may come from asking for much.
func (f *feeder) smaller(err error) error {
	f.fails++
	if f.steps > 1 {
		f.steps = max(1, f.steps/4)
	}
	return err
}

// feedAll brings c to to, for callers that wait for it.
func (f *feeder) feedAll(ctx context.Context, c *core, to, gapUntil int64, progress func(done int64)) error {
	for c.watermark < to {
		if err := f.chunk(ctx, c, to, gapUntil); err != nil {
			if ctx.Err() != nil || f.fails == 0 || f.fails > 3 || !worthSmaller(err) {
				return err
			}
			continue
		}
		if progress != nil {
			progress(c.watermark)
		}
	}
	return nil
}

// worthSmaller reports whether asking for less could help: the source answers,
// but not to this query.
func worthSmaller(err error) bool {
	switch model.KindOf(err) {
	case model.KindQuery, model.KindTimeout, model.KindTooLarge:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// place is a place in the gate, held by one evaluation.
type place struct {
	leave func()
}

// enter waits for a place to evaluate d. When the evaluation does not leave in
// time, its place is given to others and wedged is called; nil is fine.
func (e *Engine) enter(ctx context.Context, c class, d model.Detector, wedged func()) (place, error) {
	leave, err := e.gate.enter(ctx, c, d.Step, d.Source)
	if err != nil {
		return place{}, err
	}
	timer := time.AfterFunc(e.cfg.WedgedAfter.Std(), func() {
		e.metrics.wedged.Inc()
		leave()
		if wedged != nil {
			wedged()
		}
	})
	return place{func() { timer.Stop(); leave() }}, nil
}

func (e *Engine) source(d model.Detector) (Source, error) {
	src, ok := e.sources(d)
	if !ok {
		return nil, model.Errorf(model.KindConflict, model.SubjectSource, "there is no source %q; create it or choose another one", d.Source)
	}
	return src, nil
}

// query asks for steps from to until, both in milliseconds and included.
func (e *Engine) query(ctx context.Context, src Source, def *definition, from, until int64, slow time.Duration) ([]model.SeriesData, error) {
	ctx, cancel := context.WithTimeout(ctx, slow*e.cfg.QueryTimeout.Std())
	defer cancel()
	began := e.now()
	data, err := src.QueryRange(ctx, def.detector.Query, msTime(from), msTime(until), def.detector.Step, 2*e.cfg.MaxSeries)
	e.metrics.queryDuration.Observe(e.now().Sub(began).Seconds())
	if err != nil {
		return nil, fmt.Errorf("querying %s: %w", def.detector.Source, err)
	}
	return data, nil
}

// trusted reports whether data of a source in this state may be acted on. A
// source that nobody checked yet is trusted when it answers.
func trusted(s model.HealthState) bool {
	return s.Usable() || s == model.SourceUnknown || s == ""
}

func sourceError(name string, h model.SourceHealth) error {
	msg := fmt.Sprintf("the source %q is %s", name, h.State)
	if h.LastError != "" {
		msg += ": " + h.LastError
	}
	return model.Errorf(model.KindSourceUnavailable, model.SubjectSource, "%s", msg)
}
