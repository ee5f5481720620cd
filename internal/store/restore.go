package store

import (
	"context"
	"errors"
	"log/slog"

	"aiops/internal/store/postgres"
	"aiops/internal/store/sqlite"
)

// Backup writes a consistent copy of the database of cfg to the file path, which
// must not exist. Servers may use the database meanwhile: it takes no lock and
// migrates nothing. Secrets in the copy stay encrypted: keep the master key apart
// from it.
func Backup(ctx context.Context, cfg Config, path string) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if cfg.Postgres.URL == "" {
		return sqlite.Backup(ctx, cfg.SQLite.Path, path)
	}
	db, err := postgres.Open(ctx, postgres.Options{URL: cfg.Postgres.URL, MaxConnections: cfg.Postgres.MaxConnections})
	if err != nil {
		return err
	}
	return errors.Join(db.Backup(ctx, path), db.Close())
}

// Restore puts the content of a backup, made by Backup on the same engine, in
// the place of what the database of cfg holds. Nothing else may use the database
// meanwhile; on SQLite the lock makes sure of that, on PostgreSQL stop every
// node. The backup is checked before anything changes, and a SQLite database
// that was there stays beside the new one, named .before-restore. Afterwards the
// store is opened once, which migrates it and checks the master key.
func Restore(ctx context.Context, cfg Config, path string, log *slog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	cfg = cfg.withDefaults()
	if cfg.Postgres.URL == "" {
		lock, err := lockDir(cfg.DataDir)
		if err != nil {
			return err
		}
		if err := errors.Join(sqlite.Restore(ctx, cfg.SQLite.Path, path), lock.release()); err != nil {
			return err
		}
		return openOnce(ctx, cfg, log)
	}
	// Opening first brings the schema to the version that the backup needs.
	if err := openOnce(ctx, cfg, log); err != nil {
		return err
	}
	db, err := postgres.Open(ctx, postgres.Options{URL: cfg.Postgres.URL, MaxConnections: cfg.Postgres.MaxConnections})
	if err != nil {
		return err
	}
	if err := errors.Join(db.Restore(ctx, path), db.Close()); err != nil {
		return err
	}
	return openOnce(ctx, cfg, log)
}

func openOnce(ctx context.Context, cfg Config, log *slog.Logger) error {
	if cfg.Postgres.URL != "" {
		cfg.SQLite.Path = "" // a default that Validate would take for a choice
	}
	s, err := Open(ctx, cfg, log, nil)
	if err != nil {
		return err
	}
	return s.Close()
}
