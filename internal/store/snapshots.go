package store

import (
	"context"
	"fmt"
	"time"

	"aiops/internal/model"
)

type snapshotRow struct {
	DetectorID      string `bun:"detector_id"`
	ModelVersion    int64  `bun:"model_version"`
	Watermark       int64  `bun:"watermark"`
	DetectorVersion int64  `bun:"detector_version"`
	Parts           int    `bun:"parts"`
	Series          int    `bun:"series"`
	SizeBytes       int64  `bun:"size_bytes"`
	CreatedAt       int64  `bun:"created_at"`
}

const snapshotColumns = `detector_id, model_version, watermark, detector_version, parts, series, size_bytes, created_at`

type chunkRow struct {
	Part  int    `bun:"part"`
	Chunk int    `bun:"chunk"`
	Data  []byte `bun:"data"`
}

// chunkBytes is the size of one stored piece of a snapshot.
const chunkBytes = 1 << 20

// SaveSnapshot stores the state of a detector's models in one transaction, and
// replaces one with the same watermark. It writes no event. Parts are compressed
// before the writer is involved; they may be of any size, and stay the caller's.
// The detector must exist, else the error is KindNotFound. CreatedAt, when
// zero, is now.
func (s *Store) SaveSnapshot(ctx context.Context, snap model.Snapshot) error {
	var chunks []chunkRow
	var size int64
	for i, part := range snap.Parts {
		packed := s.codec.pack(part)
		size += int64(len(packed))
		for n := 0; n == 0 || len(packed) > 0; n++ {
			piece := packed[:min(len(packed), chunkBytes)]
			packed = packed[len(piece):]
			chunks = append(chunks, chunkRow{Part: i, Chunk: n, Data: piece})
		}
	}
	return s.commit(ctx, "saving a snapshot", func(ctx context.Context, tx *tx) error {
		if err := tx.detectorExists(ctx, snap.DetectorID); err != nil {
			return err
		}
		at := toMillis(snap.CreatedAt)
		if at == 0 {
			at = tx.now
		}
		if err := tx.exec(ctx, `DELETE FROM model_snapshots WHERE detector_id = $1 AND model_version = $2 AND watermark = $3`,
			snap.DetectorID, snap.ModelVersion, snap.Watermark); err != nil {
			return fmt.Errorf("replacing a snapshot: %w", err)
		}
		if err := tx.exec(ctx, `INSERT INTO model_snapshots (`+snapshotColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			snap.DetectorID, snap.ModelVersion, snap.Watermark, snap.DetectorVersion, len(snap.Parts), snap.Series, size, at); err != nil {
			return fmt.Errorf("inserting a snapshot: %w", err)
		}
		for _, c := range chunks {
			if err := tx.exec(ctx, `INSERT INTO model_snapshot_chunks (detector_id, model_version, watermark, part, chunk, data)
				VALUES ($1, $2, $3, $4, $5, $6)`, snap.DetectorID, snap.ModelVersion, snap.Watermark, c.Part, c.Chunk, c.Data); err != nil {
				return fmt.Errorf("inserting a piece of a snapshot: %w", err)
			}
		}
		return nil
	})
}

// LatestSnapshot returns the snapshot with the greatest watermark of one model
// version of a detector, or a KindNotFound error with the subject model.
func (s *Store) LatestSnapshot(ctx context.Context, detectorID string, modelVersion int64) (model.Snapshot, error) {
	return s.oneSnapshot(ctx, detectorID, modelVersion, `detector_id = $1 AND model_version = $2`, detectorID, modelVersion)
}

// SnapshotBefore returns the snapshot with the greatest watermark that is at
// most the given one, in milliseconds, or a KindNotFound error with the subject
// model.
func (s *Store) SnapshotBefore(ctx context.Context, detectorID string, modelVersion, watermark int64) (model.Snapshot, error) {
	return s.oneSnapshot(ctx, detectorID, modelVersion, `detector_id = $1 AND model_version = $2 AND watermark <= $3`, detectorID, modelVersion, watermark)
}

func (s *Store) oneSnapshot(ctx context.Context, detectorID string, modelVersion int64, where string, args ...any) (model.Snapshot, error) {
	// One transaction: a snapshot must not be replaced between its two halves.
	sqltx, err := s.read.DB.BeginTx(ctx, s.eng.ReadTx())
	if err != nil {
		return model.Snapshot{}, s.wrap(err, "reading a snapshot")
	}
	defer func() { _ = sqltx.Rollback() }() // only read: nothing can be lost
	found, err := rows[snapshotRow](ctx, s.read, sqltx, `SELECT `+snapshotColumns+` FROM model_snapshots WHERE `+where+
		` ORDER BY watermark DESC LIMIT 1`, args...)
	if err != nil {
		return model.Snapshot{}, s.wrap(err, "reading a snapshot")
	}
	if len(found) == 0 {
		e := model.NotFound(model.SubjectModel, detectorID)
		e.Message = fmt.Sprintf("no snapshot of model version %d of detector %q", modelVersion, detectorID)
		return model.Snapshot{}, e
	}
	r := found[0]
	chunks, err := rows[chunkRow](ctx, s.read, sqltx, `SELECT part, chunk, data FROM model_snapshot_chunks
		WHERE detector_id = $1 AND model_version = $2 AND watermark = $3 ORDER BY part, chunk`, r.DetectorID, r.ModelVersion, r.Watermark)
	if err != nil {
		return model.Snapshot{}, s.wrap(err, "reading a snapshot")
	}
	snap := model.Snapshot{DetectorID: r.DetectorID, DetectorVersion: r.DetectorVersion, ModelVersion: r.ModelVersion,
		Watermark: r.Watermark, Series: r.Series, CreatedAt: fromMillis(r.CreatedAt), Parts: make([][]byte, r.Parts)}
	packed := make([][]byte, r.Parts)
	for _, c := range chunks {
		if c.Part < 0 || c.Part >= r.Parts {
			return model.Snapshot{}, damagedSnapshot(r, fmt.Errorf("part %d of %d", c.Part, r.Parts))
		}
		packed[c.Part] = append(packed[c.Part], c.Data...)
	}
	for i, b := range packed {
		if snap.Parts[i], err = s.codec.unpack(b); err != nil {
			return model.Snapshot{}, damagedSnapshot(r, err)
		}
	}
	return snap, nil
}

func damagedSnapshot(r snapshotRow, err error) error {
	return model.WrapError(model.KindDatabase, model.SubjectModel, err, "the stored snapshot of detector %s at %d cannot be read", r.DetectorID, r.Watermark)
}

// The retention of snapshots: the latest, the last of every hour for a day, the
// last of every day for two weeks.
const (
	hourlyFor = 24 * time.Hour
	dailyFor  = 14 * day
)

// PruneSnapshots deletes the snapshots that the retention does not keep as of
// now: of every model version it keeps the latest, the last one of every hour
// of the past day, and the last one of every day of the past two weeks. It
// returns how many it deleted.
func (s *Store) PruneSnapshots(ctx context.Context, now time.Time) (int64, error) {
	found, err := rows[snapshotRow](ctx, s.read, s.read.DB, `SELECT `+snapshotColumns+` FROM model_snapshots
		ORDER BY detector_id, model_version, watermark DESC`)
	if err != nil {
		return 0, s.wrap(err, "reading snapshots")
	}
	var deleted int64
	for _, r := range expiredSnapshots(found, now) {
		err := s.commit(ctx, "pruning snapshots", func(ctx context.Context, tx *tx) error {
			n, err := tx.affected(ctx, `DELETE FROM model_snapshots WHERE detector_id = $1 AND model_version = $2 AND watermark = $3`,
				r.DetectorID, r.ModelVersion, r.Watermark)
			deleted += n
			return err
		})
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

// expiredSnapshots takes snapshots sorted by detector, version and descending
// watermark, and returns those that nothing keeps. Watermarks count, not the
// times of writing: a clock that jumps deletes nothing early.
func expiredSnapshots(sorted []snapshotRow, now time.Time) []snapshotRow {
	type group struct {
		detector string
		version  int64
	}
	type slot struct {
		g group
		t time.Time
	}
	latest := make(map[group]bool)
	hours, days := make(map[slot]bool), make(map[slot]bool)
	var out []snapshotRow
	for _, r := range sorted {
		g := group{r.DetectorID, r.ModelVersion}
		at := fromMillis(r.Watermark)
		keep := !latest[g]
		latest[g] = true
		if h := (slot{g, at.Truncate(time.Hour)}); now.Sub(at) < hourlyFor && !hours[h] {
			hours[h], keep = true, true
		}
		if d := (slot{g, at.Truncate(day)}); now.Sub(at) < dailyFor && !days[d] {
			days[d], keep = true, true
		}
		if !keep {
			out = append(out, r)
		}
	}
	return out
}
