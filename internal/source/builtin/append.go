package builtin

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"aiops/internal/model"
)

// The origins of samples, as the metrics name them.
const (
	originProcess  = "process"
	originHost     = "host"
	originTarget   = "target"
	originReceiver = "receiver"
	originProgram  = "program"
)

// errSeriesCap refuses a new series beyond the cap. It counts as out of bounds,
// so that the scrape loop drops the sample and goes on with known series.
var errSeriesCap = fmt.Errorf("too many series in memory: %w", storage.ErrOutOfBounds)

// writer makes appenders for one origin. New series beyond the cap are refused;
// samples of known series never are.
type writer struct {
	s      *Source
	origin string
}

// AppenderV2 implements storage.AppendableV2.
func (w writer) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return w.appender(ctx)
}

func (w writer) appender(ctx context.Context) *appender {
	app := w.s.db.AppenderV2(ctx).(storage.ExemplarAppenderV2)
	return &appender{ExemplarAppenderV2: app, refs: app.(storage.GetRef), w: w}
}

// appender counts what it takes and refuses. Like every appender it is for one
// goroutine.
type appender struct {
	storage.ExemplarAppenderV2
	refs storage.GetRef
	w    writer

	taken   int
	refused map[string]int // reason → samples
}

// Append implements storage.AppenderV2.
func (a *appender) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	if ref == 0 {
		if ref, _ = a.refs.GetRef(ls, ls.Hash()); ref == 0 && a.w.s.full() {
			a.refuse("series_limit")
			return 0, errSeriesCap
		}
	}
	ref, err := a.ExemplarAppenderV2.Append(ref, ls, st, t, v, h, fh, opts)
	if err != nil && !errors.Is(err, (*storage.AppendPartialError)(nil)) {
		a.refuse(reasonOf(err))
		return ref, err
	}
	a.taken++
	return ref, err
}

// AppendExemplars implements storage.ExemplarAppenderV2. Exemplars of a series
// that was refused have nowhere to go.
func (a *appender) AppendExemplars(ref storage.SeriesRef, ls labels.Labels, e []exemplar.Exemplar) (storage.SeriesRef, error) {
	if ref == 0 {
		if ref, _ = a.refs.GetRef(ls, ls.Hash()); ref == 0 {
			return 0, nil
		}
	}
	return a.ExemplarAppenderV2.AppendExemplars(ref, ls, e)
}

func (a *appender) refuse(reason string) {
	if a.refused == nil {
		a.refused = map[string]int{}
	}
	a.refused[reason]++
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, storage.ErrTooOldSample):
		return "too_old"
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return "out_of_order"
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return "duplicate"
	case errors.Is(err, storage.ErrOutOfBounds):
		return "out_of_bounds"
	}
	return "invalid"
}

// soft reports whether an error is about one sample only.
func soft(err error) bool {
	return errors.Is(err, storage.ErrTooOldSample) || errors.Is(err, storage.ErrOutOfOrderSample) ||
		errors.Is(err, storage.ErrDuplicateSampleForTimestamp) || errors.Is(err, storage.ErrOutOfBounds)
}

// Commit implements storage.AppenderTransaction.
func (a *appender) Commit() error {
	a.count()
	if err := a.w.s.room(); err != nil {
		return errors.Join(err, a.ExemplarAppenderV2.Rollback())
	}
	err := a.ExemplarAppenderV2.Commit()
	if err == nil {
		a.w.s.metrics.appended.WithLabelValues(a.w.origin).Add(float64(a.taken))
	}
	return err
}

// Rollback implements storage.AppenderTransaction.
func (a *appender) Rollback() error {
	a.count()
	return a.ExemplarAppenderV2.Rollback()
}

func (a *appender) count() {
	for reason, n := range a.refused {
		a.w.s.metrics.refused.WithLabelValues(a.w.origin, reason).Add(float64(n))
	}
}

// full reports whether the cap on series is reached.
func (s *Source) full() bool {
	return s.db.Head().NumSeries() >= uint64(s.cfg.MaxSeries)
}

// Append writes samples, which may be older than ones already there by up to
// the out-of-order window. It commits what can be taken and returns a KindQuery
// error that says how many samples were refused and why, or a KindStorageFull
// or KindDatabase error when nothing was written. It does not keep series.
func (s *Source) Append(ctx context.Context, series []model.SeriesData) error {
	app := writer{s, originProgram}.appender(ctx)
	var b labels.ScratchBuilder
	for _, one := range series {
		b.Reset()
		for _, l := range one.Labels {
			b.Add(l.Name, l.Value)
		}
		ls := b.Labels()
		var ref storage.SeriesRef
		for _, p := range one.Samples {
			r, err := app.Append(ref, ls, 0, p.T, p.V, nil, nil, storage.AOptions{})
			if err != nil && !soft(err) {
				return errors.Join(writeError(err), app.Rollback())
			}
			if err == nil {
				ref = r
			}
		}
	}
	if err := app.Commit(); err != nil {
		return writeError(err)
	}
	return refusedError(app.refused)
}

// refusedError tells of samples that were not taken.
func refusedError(refused map[string]int) error {
	n := 0
	facts := map[string]any{}
	for reason, count := range refused {
		n += count
		facts[reason] = count
	}
	if n == 0 {
		return nil
	}
	e := model.Errorf(model.KindInvalid, model.SubjectSource, "%d samples were refused, all others were written: %s", n, reasons(refused))
	e.Context = facts
	return e
}

func reasons(refused map[string]int) string {
	text := ""
	for _, r := range []struct{ reason, says string }{
		{"series_limit", "would make a new series beyond the limit"},
		{"too_old", "are older than the out-of-order window"},
		{"out_of_order", "are out of order"},
		{"out_of_bounds", "are too far from now"},
		{"duplicate", "differ from a sample of the same time"},
		{"invalid", "are invalid"},
	} {
		if n := refused[r.reason]; n > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%d %s", n, r.says)
		}
	}
	return text
}

// staleMarker is the value that ends a series.
var staleMarker = math.Float64frombits(0x7ff0000000000002)
