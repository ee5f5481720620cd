package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"

	"aiops/internal/model"
)

// migrate brings the schema up to date. An existing database is copied first;
// a step that fails leaves the database as it was before that step.
func (s *Store) migrate(ctx context.Context, steps []*goose.Migration) error {
	dialect := goose.DialectSQLite3
	opts := []goose.ProviderOption{goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true),
		goose.WithTableName("aiops_schema")}
	if s.eng.Name() == "postgres" {
		dialect = goose.DialectPostgres
		// Several nodes may start at once; one migrates, the others wait for it.
		locker, err := lock.NewPostgresSessionLocker()
		if err != nil {
			return fmt.Errorf("migrating the database: %w", err)
		}
		opts = append(opts, goose.WithSessionLocker(locker))
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
	if current < target {
		if current > 0 {
			name, err := s.eng.SnapshotBefore(ctx, current)
			if err != nil {
				return s.wrap(err, "copying the database before migrating it")
			}
			s.log.Info("copied the database before migrating it", "copy", name, "version", current)
		}
		if _, err := provider.Up(ctx); err != nil {
			return s.wrap(err, "migrating the database")
		}
		s.log.Info("migrated the database", "from", current, "to", target)
	}
	return s.migrateJobs(ctx)
}
