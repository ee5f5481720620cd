package app

import (
	"context"
	"path/filepath"

	"aiops/internal/config"
	"aiops/internal/logmine"
	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/source/intake"
)

// buildIntake makes what takes log lines in: receivers and files. Lines are
// told apart into header and message and have a bounded number of streams before
// they are mined, counted and kept.
func (p *program) buildIntake(c config.Config) error {
	limiter, err := source.NewStreamLimiter(p.registry, nil)
	if err != nil {
		return err
	}
	p.intake, err = intake.New(intake.Config{
		Dir: filepath.Join(c.DataDir, "files"), Files: c.Builtin.Files,
		Stamp: func(text string) int64 { return logmine.ParseHeader(text).Time },
	}, limiter.Limit(described(p.logs.Take)), p.log, p.registry)
	if err != nil {
		return err
	}
	p.life.onStop("receivers of log lines", func(context.Context) error { return p.intake.Close() })
	p.sources.receivers = p.intake.Collectors
	return nil
}

// described fills in what the texts of lines say before a sink takes them.
func described(sink source.LineSink) source.LineSink {
	return func(ctx context.Context, from string, lines []model.LogLine) error {
		for i := range lines {
			logmine.Describe(&lines[i])
		}
		return sink(ctx, from, lines)
	}
}
