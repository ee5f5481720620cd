package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"aiops/internal/model"
)

// maintainEvery is how often Run cleans up.
const maintainEvery = 10 * time.Minute

// Run cleans up now and then until ctx ends: see Maintain. A failure is logged
// and tried again; a failed store ends it with an error.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(maintainEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
			return s.Err()
		case <-t.C:
		}
		if err := s.Maintain(ctx, s.now()); err != nil && ctx.Err() == nil {
			s.log.Warn("cleaning up did not succeed; it is repeated", "err", err)
		}
	}
}

// Maintain deletes what the retention does not keep as of now, gives space back
// to the disk and refreshes what the database knows of its tables. Writers go on
// meanwhile. It returns every failure, and does what it can after one.
func (s *Store) Maintain(ctx context.Context, now time.Time) error {
	r := s.cfg.Retention
	var errs []error
	step := func(keep model.Duration, prune func(context.Context, time.Time) (int64, error)) {
		if keep > 0 {
			_, err := prune(ctx, now.Add(-keep.Std()))
			errs = append(errs, err)
		}
	}
	step(r.Events, s.PruneEvents)
	step(r.Anomalies, s.PruneAnomalies)
	step(r.Tasks, s.PruneTasks)
	_, err := s.PruneSnapshots(ctx, now)
	errs = append(errs, err)
	_, err = s.PruneSessions(ctx, now)
	errs = append(errs, err)
	_, err = s.PruneIdempotency(ctx, now)
	errs = append(errs, err, s.pruneHealth(ctx), s.wrap(s.eng.Maintain(ctx), "cleaning up the database"))
	return errors.Join(errs...)
}

// pruneAnomalyStep is smaller than pruneStep: an anomaly has many rows.
const pruneAnomalyStep = 500

// PruneAnomalies deletes the resolved anomalies that started before the given
// time, with their evidence, and returns how many. Labelled ones stay: they are
// what people taught.
func (s *Store) PruneAnomalies(ctx context.Context, before time.Time) (int64, error) {
	var total int64
	for {
		var n int64
		err := s.commit(ctx, "pruning anomalies", func(ctx context.Context, tx *tx) (err error) {
			n, err = tx.pruneAnomalies(ctx, toMillis(before))
			return err
		})
		total += n
		if err != nil || n < pruneAnomalyStep {
			return total, err
		}
	}
}

func (t *tx) pruneAnomalies(ctx context.Context, before int64) (int64, error) {
	old, err := rows[anomalyRow](ctx, t.bun, t, `SELECT id, series, started_at FROM anomalies
		WHERE started_at < $1 AND state = 'resolved' AND label = 0 ORDER BY started_at, id LIMIT $2`, before, pruneAnomalyStep)
	if err != nil {
		return 0, fmt.Errorf("reading old anomalies: %w", err)
	}
	for _, r := range old {
		var labels model.Labels
		if err := json.Unmarshal([]byte(r.Series), &labels); err != nil {
			return 0, fmt.Errorf("reading the labels of %s: %w", r.ID, err)
		}
		for _, l := range labels {
			if err := t.exec(ctx, `DELETE FROM anomaly_labels WHERE name = $1 AND value = $2 AND started_at = $3 AND anomaly_id = $4`,
				cleanText(l.Name), cleanText(l.Value), r.StartedAt, r.ID); err != nil {
				return 0, fmt.Errorf("deleting labels: %w", err)
			}
		}
	}
	if len(old) == 0 {
		return 0, nil
	}
	var q strings.Builder
	q.WriteString(`DELETE FROM anomalies WHERE id IN `)
	writePlaceholders(&q, 1, len(old))
	args := make([]any, len(old))
	for i, r := range old {
		args[i] = r.ID
	}
	return t.affected(ctx, q.String(), args...)
}
