package logs

import (
	"context"
	"time"

	"aiops/internal/model"
)

// SeriesWriter takes the counts. A KindInvalid error says that some samples
// were refused and the others written, any other that none were.
type SeriesWriter interface {
	Append(ctx context.Context, series []model.SeriesData) error
}

// SeriesReader evaluates PromQL on what the SeriesWriter took.
type SeriesReader interface {
	QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error)
}

// LineStore keeps lines. Append returns when they are taken; its error means
// that none were.
type LineStore interface {
	Append(ctx context.Context, lines []model.LogLine) error
}

// SearchFunc returns lines of a source that the filter selects and the cursor
// of the page behind them, "" on the last. On a source that is not the embedded
// one the query selects the streams, in the source's own language, and the
// filter's Templates are ignored, because its lines are not mined when they are
// stored.
type SearchFunc func(ctx context.Context, source, query string, f model.LogFilter) ([]model.LogLine, string, error)

// StateStore keeps one blob of this node and the decisions of all nodes durably.
// LogState returns nil when there is none. Decisions have numbers from 1 on
// without gaps, in the order in which they were stored.
type StateStore interface {
	LogState(ctx context.Context) ([]byte, error)
	SaveLogState(ctx context.Context, state []byte) error
	AppendLogDecision(ctx context.Context, data []byte) (id int64, err error)
	LogDecisions(ctx context.Context, since int64) ([]model.LogDecision, error)
}
