package app

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/telemetry"
)

// reload reads the configuration again and applies what may change while
// running: sources, detectors, scrape targets and the level of logs. Nothing
// is touched unless the whole file is valid. What needs a restart is named in
// the log.
func (p *program) reload(ctx context.Context) error {
	c, err := p.options.load()
	var file *config.Error
	if errors.As(err, &file) {
		return invalidFile(file)
	}
	if err != nil {
		return err
	}
	old := p.config.Load()
	level, err := telemetry.ParseLevel(c.Log.Level)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if p.shop != nil {
		c.Builtin.Targets = append(c.Builtin.Targets, p.shopTargets()...)
	}
	if err := p.embedded.SetTargets(c.Builtin.Targets); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := p.store.Exclusively(ctx, func() error { return p.provisions.apply(ctx, c, true) }); err != nil {
		return err
	}
	if err := p.sources.Sync(ctx); err != nil {
		p.log.Error("some sources cannot be used", "err", err)
	}
	if err := (engine{p.engine, p.logs, p.nodes}).Sync(ctx); err != nil {
		return fmt.Errorf("applying the detectors: %w", err)
	}
	p.level.Set(level)
	if !reflect.DeepEqual(c.Telemetry, old.Telemetry) {
		p.log.Warn("where traces are sent changes only at a restart")
		c.Telemetry = old.Telemetry
	}
	if c.Server.Listen != old.Server.Listen || c.DataDir != old.DataDir || c.Storage.Postgres.URL != old.Storage.Postgres.URL || c.Storage.SQLite != old.Storage.SQLite {
		p.log.Warn("listen address, data directory and storage change only at a restart")
		c.Server.Listen, c.DataDir, c.Storage = old.Server.Listen, old.DataDir, old.Storage
	}
	if c.Auth != old.Auth {
		p.log.Warn("authentication changes only at a restart")
		c.Auth = old.Auth
	}
	p.config.Store(&c)
	p.log.Info("configuration reloaded", "sources", len(c.Sources), "detectors", len(c.Detectors))
	return nil
}

// invalidFile says what is wrong with the file without saying where on this
// machine it is.
func invalidFile(e *config.Error) error {
	e.File = filepath.Base(e.File)
	out := &model.Error{Kind: model.KindInvalid, Message: "The configuration is not valid, so the running one stays. " + e.Error()}
	for _, p := range e.Problems {
		out.Fields = append(out.Fields, model.FieldError{Code: "config", Detail: fmt.Sprintf("line %d, column %d: %s", p.Line, p.Column, p.Message)})
	}
	return out
}
