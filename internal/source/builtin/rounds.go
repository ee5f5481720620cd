package builtin

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"aiops/internal/model"
)

// roundTime is how long the collectors of a round have: most of LateData, so
// that what they read is there when detectors look at that time.
func (s *Source) roundTime() time.Duration {
	return max(min(s.cfg.Interval.Std(), s.cfg.LateData.Std())*3/4, 200*time.Millisecond)
}

// rounds runs the collectors at each multiple of the interval until ctx ends.
func (s *Source) rounds(ctx context.Context) {
	interval := s.cfg.Interval.Std()
	done := make(chan reading, len(s.collectors)) // one place for each, so none blocks
	var round uint64
	var last int64
	for {
		next := s.now().Truncate(interval).Add(interval)
		timer := time.NewTimer(next.Sub(s.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			s.leave(done)
			return
		case r := <-done:
			// A collector of an earlier round returned too late to count.
			timer.Stop()
			r.c.busy = false
			continue
		case <-timer.C:
		}
		t := s.now().Truncate(interval).UnixMilli()
		if t == last {
			continue // the clock was set back a little within the interval
		}
		if len(s.collectors) == 0 {
			if err := s.Check(ctx); err != nil && ctx.Err() == nil {
				s.tracker.Failed(shown(err))
			} else {
				s.tracker.Succeeded()
			}
			continue
		}
		last = t
		round++
		s.round(ctx, t, round, done)
	}
}

// leave waits for collectors under way, but not for one that hangs.
func (s *Source) leave(done chan reading) {
	timer := time.NewTimer(s.roundTime())
	defer timer.Stop()
	for _, c := range s.collectors {
		for c.busy {
			select {
			case r := <-done:
				r.c.busy = false
			case <-timer.C:
				return
			}
		}
	}
}

// round runs all collectors that are free, waits for them as long as a round
// may take, and commits what they read, at time t.
func (s *Source) round(ctx context.Context, t int64, round uint64, done chan reading) {
	begin := time.Now()
	waiting := 0
	var readings []reading
	for _, c := range s.collectors {
		if c.busy {
			readings = append(readings, reading{c: c, err: errors.New("still busy with an earlier round")})
			continue
		}
		c.busy = true
		waiting++
		go func() { done <- c.collect(s.cfg.Instance, round) }()
	}
	deadline := time.NewTimer(s.roundTime())
	defer deadline.Stop()
	late := false
	for waiting > 0 && !late {
		select {
		case r := <-done:
			r.c.busy = false
			if r.round == round { // else it comes from an earlier round, too late
				readings = append(readings, r)
				waiting--
			}
		case <-deadline.C:
			late = true
		case <-ctx.Done():
			return
		}
	}
	if late {
		readings = append(readings, s.overdue(readings)...)
	}
	if err := s.commit(ctx, t, round, readings); err != nil {
		s.tracker.Failed(shown(err))
		s.log.Error("samples of this process and host were not written", "err", err)
		return
	}
	// Not the time of the samples, which the wall clock gave and may take back.
	s.tracker.Checked(time.Since(begin), time.Now())
}

// overdue makes readings for the collectors that did not return in time.
func (s *Source) overdue(readings []reading) []reading {
	returned := map[*collector]bool{}
	for _, r := range readings {
		returned[r.c] = true
	}
	var late []reading
	for _, c := range s.collectors {
		if !returned[c] {
			late = append(late, reading{c: c, duration: s.roundTime(), err: fmt.Errorf("did not return within %s", s.roundTime())})
		}
	}
	return late
}

// commit writes a round in one transaction. A failed collector gets stale
// markers, as a failed scrape would.
func (s *Source) commit(ctx context.Context, t int64, round uint64, readings []reading) error {
	written := make([]int, len(readings))
	refused := 0
	for _, origin := range []string{originProcess, originHost} {
		app := writer{s, origin}.appender(ctx)
		for i, r := range readings {
			if r.c.origin != origin {
				continue
			}
			var err error
			if written[i], err = r.c.write(app, t, round, r.points); err != nil {
				return s.abandon(app, readings, err)
			}
		}
		if err := s.appendReport(app, t, origin, readings, written); err != nil {
			return s.abandon(app, readings, err)
		}
		if err := app.Commit(); err != nil {
			return s.abandon(nil, readings, err)
		}
		refused += app.refused["too_old"] + app.refused["out_of_bounds"] + app.refused["out_of_order"]
	}
	at := time.UnixMilli(t)
	total := 0
	for i, r := range readings {
		r.c.report(at, r, written[i], r.err)
		total += written[i]
	}
	if total == 0 && refused > 0 {
		return model.Errorf(model.KindDatabase, model.SubjectSource,
			"all samples are older than the database takes, because it holds samples from %s ahead of now; the clock was wrong then or is now", time.UnixMilli(s.db.Head().MaxTime()).Sub(at).Round(time.Second))
	}
	return nil
}

// abandon ends a round that could not be written.
func (s *Source) abandon(app *appender, readings []reading, err error) error {
	for _, r := range readings {
		r.c.forget()
	}
	if app != nil {
		err = errors.Join(err, app.Rollback())
	}
	return writeError(err)
}

// appendReport writes the series that Prometheus writes about each scrape, and
// node_exporter about each of its collectors.
func (s *Source) appendReport(app storage.AppenderV2, t int64, origin string, readings []reading, written []int) error {
	job := map[string]string{originProcess: jobProcess, originHost: jobHost}[origin]
	e := &emitter{job: job, instance: s.cfg.Instance, limit: hostReportLimit}
	up, samples, duration, parts := 0.0, 0, time.Duration(0), 0
	for i, r := range readings {
		if r.c.origin != origin {
			continue
		}
		parts++
		ok := 0.0
		if r.err == nil {
			ok, up = 1, 1
		}
		samples += written[i]
		duration = max(duration, r.duration)
		if origin == originHost && !errors.Is(r.err, errNothingToRead) {
			name := r.c.name[len("host/"):]
			e.emit("node_scrape_collector_success", ok, "collector", name)
			e.emit("node_scrape_collector_duration_seconds", r.duration.Seconds(), "collector", name)
		}
	}
	if parts == 0 {
		return nil
	}
	e.emit("up", up)
	e.emit("scrape_duration_seconds", duration.Seconds())
	e.emit("scrape_samples_scraped", float64(samples))
	for _, p := range e.points {
		if _, err := app.Append(0, p.labels, 0, t, p.value, nil, nil, storage.AOptions{}); err != nil && !soft(err) {
			return err
		}
	}
	return nil
}

// hostReportLimit bounds the series about the collectors themselves.
const hostReportLimit = 1_000

// markInterrupted ends every series that this program scraped before it stopped
// or was killed. What came in by remote write is left alone: its senders did not
// stop.
func (s *Source) markInterrupted(ctx context.Context) error {
	jobs := []string{jobProcess, jobHost}
	for _, t := range s.cfg.Targets {
		jobs = append(jobs, t.Job)
	}
	return s.markEnded(ctx, jobs)
}

// markEnded writes a stale marker after the last sample of every series of some
// jobs. Otherwise queries would hold the last value for the lookback and take
// an outage for data.
func (s *Source) markEnded(ctx context.Context, jobs []string) error {
	head := s.db.Head()
	newest := head.MaxTime()
	if head.NumSeries() == 0 || newest <= 0 {
		return nil
	}
	quoted := make([]string, len(jobs))
	for i, job := range jobs {
		quoted[i] = regexp.QuoteMeta(job)
	}
	matcher, err := labels.NewMatcher(labels.MatchRegexp, labelJob, strings.Join(quoted, "|"))
	if err != nil {
		return err
	}
	q, err := s.db.Querier(newest-s.cfg.Query.Lookback.Std().Milliseconds(), newest)
	if err != nil {
		return err
	}
	defer q.Close()
	app := s.db.AppenderV2(ctx)
	set := q.Select(ctx, false, nil, matcher)
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		it = series.Iterator(it)
		last, ok := lastFloat(it)
		if !ok {
			continue
		}
		if _, err := app.Append(0, series.Labels(), 0, last+1, staleMarker, nil, nil, storage.AOptions{}); err != nil && !soft(err) {
			return errors.Join(err, app.Rollback())
		}
	}
	if err := set.Err(); err != nil {
		return errors.Join(err, app.Rollback())
	}
	return app.Commit()
}
