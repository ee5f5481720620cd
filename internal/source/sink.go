package source

import (
	"context"

	"aiops/internal/model"
)

// LineSink takes lines that a source received or read. It is called by several
// goroutines at the same time, and blocks when it is not done with earlier
// lines, so that the sender waits too. The lines are in order of time per
// stream where the sender keeps one; their Template is "" and everything else
// that is known is filled in. The sink owns the slice and may change it.
//
// An error means that none of the lines were taken: whoever called keeps them,
// tells its own sender to come again, and never drops them silently. An error
// of KindOverloaded says how long to wait in its RetryAfter.
type LineSink func(ctx context.Context, source string, lines []model.LogLine) error
