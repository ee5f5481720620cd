package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"aiops/internal/model"
)

// Restore puts the backup from in the place of the database at path. The
// backup is checked first; the database that was there stays beside it, named
// .before-restore. Nobody may have the database open. A crash leaves either the
// one or the other in place.
func Restore(ctx context.Context, path, from string) error {
	if err := check(ctx, from); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("restoring the database: %w", err)
	}
	part := path + ".part"
	if err := copyFile(from, part); err != nil {
		return errors.Join(fmt.Errorf("restoring the database: %w", err), removeQuiet(part))
	}
	if err := setAside(ctx, path); err != nil {
		return errors.Join(fmt.Errorf("restoring the database: %w", err), removeQuiet(part))
	}
	if err := os.Rename(part, path); err != nil {
		return fmt.Errorf("restoring the database: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// check makes sure that a file is a whole database.
func check(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return model.WrapError(model.KindNotFound, "", err, "the backup cannot be read")
	}
	db, err := open(path, "_query_only", "1", "mode", "ro")
	if err != nil {
		return err
	}
	d := &DB{path: path, writer: db, reader: db}
	if err := d.IntegrityCheck(ctx); err != nil {
		return errors.Join(model.WrapError(model.KindInvalid, "", err, "the backup is damaged or is not a database of this program"), db.Close())
	}
	return db.Close()
}

func copyFile(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Sync(), dst.Close())
}

// setAside renames the database that is there, together with its log.
func setAside(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// Opening and closing moves the log into the file. A damaged one, which may
	// be the reason to restore, keeps its log.
	if d, err := Open(ctx, Options{Path: path}); err == nil {
		if err := d.Close(); err != nil {
			return err
		}
	}
	for _, suffix := range []string{"-wal", "-shm", ""} {
		err := os.Rename(path+suffix, path+".before-restore"+suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if errors.Is(err, os.ErrNotExist) { // of an earlier restore
			if err := removeQuiet(path + ".before-restore" + suffix); err != nil {
				return err
			}
		}
	}
	return nil
}
