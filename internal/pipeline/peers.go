package pipeline

import (
	"context"
	"time"

	"aiops/internal/model"
)

// Querier evaluates a query at start, start+step, … up to end, both ends
// included and aligned to the step. It never returns a partial answer without
// an error.
type Querier interface {
	QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error)
}

// Source is a Querier that knows how well it works.
type Source interface {
	Querier
	Health() model.SourceHealth
	// LateData is how long samples may come late; evaluation stays that far
	// behind the clock.
	LateData() time.Duration
}

// SourceFunc finds the source of a detector: that of its name, or for a detector
// on logs the series that are counted from its lines. It is called at each
// evaluation, so a source may be replaced at any time.
type SourceFunc func(d model.Detector) (Source, bool)

// Owner shares detectors out among the engines of several nodes on one store.
// Its methods are called often, by many goroutines, and must not block.
type Owner interface {
	// Hold returns the token under which this node owns a detector, 0 when it
	// does not. write says that it may evaluate it and write what it finds. With
	// score alone the database cannot be reached: the detector is scored in
	// memory, and what is found waits. With neither it must not be evaluated: the
	// node is not the owner, or cannot be sure that it still is. Engine.Recheck
	// tells of changes.
	Hold(detectorID string) (token int64, write, score bool)
	// Fence returns the context for what the owner writes. Once another node
	// has a newer token, such writes fail with an error that model.IsDeposed
	// knows.
	Fence(ctx context.Context, detectorID string, token int64) context.Context
	// Report returns what the owner's Engine.Report said last, how old that is,
	// and the node that owns the detector, "" for none.
	Report(detectorID string) (report []byte, node string, age time.Duration)
	// Node names this node, for people.
	Node() string
}

// Audience is who looks at series while they are scored. Its methods are called
// after each evaluation, by many goroutines, and must not block.
type Audience interface {
	// Watched returns the keys of the series of a detector that somebody looks
	// at, nil for none.
	Watched(detectorID string) []string
	// Point gets the newest scored point of one of them, once.
	Point(detectorID, seriesKey string, p model.ScoredPoint)
}

// Store is what the engine needs of the database. All methods are safe for
// concurrent use. An error means that nothing was written.
type Store interface {
	// AllDetectors lists every definition, enabled or not.
	AllDetectors(ctx context.Context) ([]model.Detector, error)

	// DetectorVersions lists every definition that a detector had, newest first.
	DetectorVersions(ctx context.Context, id string) ([]model.Detector, error)

	// CommitAnomalies writes changes in order, each with its event, in one
	// transaction. An anomaly only moves forward: what alters nothing and what
	// is older than what is stored writes nothing.
	CommitAnomalies(ctx context.Context, changes []model.AnomalyChange) error
	Anomaly(ctx context.Context, id string) (model.Anomaly, error) // KindNotFound when there is none
	Evidence(ctx context.Context, anomalyID string) (model.Evidence, error)
	OpenAnomalies(ctx context.Context, detectorID string) ([]model.Anomaly, error)
	// AnomaliesBetween lists anomalies of detectorID ("" is any) that were
	// open at some time in [from, to], newest first.
	AnomaliesBetween(ctx context.Context, detectorID string, from, to time.Time, limit int) ([]model.Anomaly, error)

	// StartShadow, Shadow, Shadows and the rest keep at most one shadow for a
	// detector; one that is missing is KindNotFound.
	StartShadow(ctx context.Context, s model.ShadowStart) (model.Shadow, error)
	Shadow(ctx context.Context, detectorID string) (model.Shadow, error)
	Shadows(ctx context.Context) ([]model.Shadow, error)
	// ShadowBegan notes the first step that a shadow scores beside the live
	// definition.
	ShadowBegan(ctx context.Context, detectorID string, modelVersion int64, since time.Time) error
	// CommitShadow writes alarms of a shadow as CommitAnomalies does, apart and
	// without events.
	CommitShadow(ctx context.Context, detectorID string, alarms []model.Anomaly) error
	ShadowAnomalies(ctx context.Context, detectorID string, limit int) ([]model.Anomaly, error)
	// PromoteShadow makes d a new version of its detector and the shadow's
	// model version the active one, in one transaction. detector and expect
	// are the versions of the detector and of the shadow; expect 0 is any.
	PromoteShadow(ctx context.Context, d model.Detector, detector, expect int64) (model.Detector, error)
	DiscardShadow(ctx context.Context, detectorID string, expect int64, reason string) error

	// RecentKnownEvents lists the known events that end at since or later.
	RecentKnownEvents(ctx context.Context, since time.Time) ([]model.KnownEvent, error)

	SaveSnapshot(ctx context.Context, s model.Snapshot) error
	// LatestSnapshot returns KindNotFound when there is none.
	LatestSnapshot(ctx context.Context, detectorID string, modelVersion int64) (model.Snapshot, error)
	// SnapshotBefore returns the newest snapshot whose watermark is at most
	// the given one, in milliseconds, or KindNotFound.
	SnapshotBefore(ctx context.Context, detectorID string, modelVersion, watermark int64) (model.Snapshot, error)

	// SaveModelVersion writes a trained generation, makes it the active one
	// when its state says so (the former becomes retired) and tells of it with
	// the event detector.trained.
	SaveModelVersion(ctx context.Context, v model.ModelVersion) error
	ModelVersions(ctx context.Context, detectorID string) ([]model.ModelVersion, error)
}
