package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/riverqueue/river/rivermigrate"

	"aiops/internal/model"
)

// migrate brings the schema, and that of the queue of tasks, up to date. An
// existing database is copied first; a step that fails leaves the database as
// it was before that step. One node at a time runs it.
func (s *Store) migrate(ctx context.Context, steps []*goose.Migration) error {
	dialect := goose.DialectSQLite3
	opts := []goose.ProviderOption{goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true),
		goose.WithTableName("aiops_schema")}
	if s.eng.Name() == "postgres" {
		dialect = goose.DialectPostgres
	}
	provider, err := goose.NewProvider(dialect, s.write.DB, nil, opts...)
	if err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	current, err := provider.GetDBVersion(ctx)
	if err != nil && !errors.Is(err, database.ErrVersionNotFound) {
		return s.wrap(err, "reading the version of the schema")
	}
	target := int64(0)
	for _, m := range provider.ListSources() {
		target = max(target, m.Version)
	}
	if current > target {
		return model.Errorf(model.KindConflict, "", "the database has schema version %d, this program knows %d; "+
			"start the newer program, or restore the copy that was taken before the upgrade", current, target)
	}
	queue, queuePending, err := s.queueMigrator(ctx)
	if err != nil {
		return err
	}
	if current > 0 && (current < target || queuePending) {
		name, err := s.eng.SnapshotBefore(ctx, current)
		if err != nil {
			return s.wrap(err, "copying the database before migrating it")
		}
		s.log.Info("copied the database before migrating it", "copy", name, "version", current)
	}
	if current < target {
		if _, err := provider.Up(ctx); err != nil {
			return s.wrap(err, "migrating the database")
		}
		s.log.Info("migrated the database", "from", current, "to", target)
	}
	if queuePending {
		if _, err := queue.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
			return s.wrap(err, "migrating the queue of tasks")
		}
	}
	return nil
}

// queueMigrator reports whether River's own tables are behind.
func (s *Store) queueMigrator(ctx context.Context) (m *rivermigrate.Migrator[*sql.Tx], pending bool, err error) {
	m, err = rivermigrate.New(s.riverDriver(), &rivermigrate.Config{Logger: s.log})
	if err != nil {
		return nil, false, fmt.Errorf("migrating the queue of tasks: %w", err)
	}
	done, err := m.ExistingVersions(ctx)
	if err != nil {
		return nil, false, s.wrap(err, "reading the version of the queue of tasks")
	}
	return m, len(done) < len(m.AllVersions()), nil
}
