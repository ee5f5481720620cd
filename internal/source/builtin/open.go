package builtin

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/util/compression"

	"aiops/internal/model"
)

const (
	quarantineDir = "quarantine"
	maxBlock      = 31 * 24 * time.Hour
)

func tsdbOptions(cfg Config) *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.RetentionDuration = cfg.RetentionTime.Std().Milliseconds()
	o.MaxBytes = cfg.RetentionBytes
	o.WALCompression = compression.Snappy
	o.OutOfOrderTimeWindow = cfg.OutOfOrderWindow.Std().Milliseconds()
	// A block must not hold more than a tenth of what is kept, or retention
	// would delete in steps that are too coarse.
	o.MaxBlockDuration = max(o.MinBlockDuration, min(maxBlock, cfg.RetentionTime.Std()/10).Milliseconds())
	o.EnableOverlappingCompaction = true
	o.NoLockfile = true // database holds the lock
	return o
}

// database is an open database with the lock on its directory.
type database struct {
	*tsdb.DB
	lock        *tsdbutil.DirLocker
	quarantined []string
}

// Close closes the database and then releases the directory.
func (d *database) Close() error {
	return errors.Join(d.DB.Close(), d.lock.Release())
}

// openDatabase opens the database. It repairs its log by itself, losing what was
// written after the damage; a block that cannot be read is moved aside before,
// so that one bad block does not keep all others from being used. The lock is
// ours, because no block may be moved while another process uses it.
func openDatabase(cfg Config, logger *slog.Logger, reg prometheus.Registerer) (_ *database, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, model.WrapError(model.KindUnavailable, model.SubjectSource, err, "the directory of the embedded database cannot be made; check its parent and permissions")
	}
	d := &database{}
	if d.lock, err = tsdbutil.NewDirLocker(cfg.Dir, "tsdb", slog.New(slog.DiscardHandler), nil); err != nil {
		return nil, fmt.Errorf("preparing the lock of the embedded database: %w", err)
	}
	if err := d.lock.Lock(); err != nil {
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, model.WrapError(model.KindConflict, model.SubjectSource, err, "another process uses the embedded database's directory; stop it, or choose another data directory")
		}
		return nil, model.WrapError(model.KindUnavailable, model.SubjectSource, err, "the embedded database's directory cannot be locked; check its permissions")
	}
	if d.quarantined, err = quarantine(cfg.Dir, logger); err != nil {
		return nil, errors.Join(fmt.Errorf("moving damaged blocks of the embedded database aside: %w", err), d.lock.Release())
	}
	if err := d.open(cfg, logger, reg); err != nil {
		return nil, errors.Join(err, d.lock.Release())
	}
	return d, nil
}

// open opens the database itself. When its log is damaged in a way that it
// cannot repair, the log is moved aside: what was not in a block yet, the last
// hours, is lost then, but the program starts.
func (d *database) open(cfg Config, logger *slog.Logger, reg prometheus.Registerer) (err error) {
	attempt := &registrar{reg: reg}
	if d.DB, err = tsdb.Open(cfg.Dir, logger, attempt, tsdbOptions(cfg), nil); err == nil {
		return nil
	}
	attempt.unregister()
	failed := model.WrapError(model.KindUnavailable, model.SubjectSource, err,
		"the embedded database cannot be opened; check the disk and permissions, or move the directory \"metrics\" in the data directory aside to start with an empty one")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EMFILE) {
		return failed
	}
	moved, merr := quarantineLog(cfg.Dir)
	if merr != nil || moved == "" {
		return errors.Join(failed, merr)
	}
	if d.DB, err = tsdb.Open(cfg.Dir, logger, reg, tsdbOptions(cfg), nil); err != nil {
		return errors.Join(failed, err)
	}
	d.quarantined = append(d.quarantined, moved)
	logger.Error("the embedded database's log was damaged and moved aside; samples of the last hours are missing", "to", quarantineDir, "name", moved, "err", failed.Err)
	return nil
}

// quarantineLog moves everything that is not a block into a directory of its
// own and returns its name.
func quarantineLog(dir string) (string, error) {
	name := "log-" + time.Now().UTC().Format("20060102T150405.000")
	moved := ""
	for _, part := range []string{"wal", "wbl", "chunks_head"} {
		from := filepath.Join(dir, part)
		if _, err := os.Stat(from); err != nil {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, quarantineDir, name), 0o750); err != nil {
			return "", err
		}
		if err := os.Rename(from, filepath.Join(dir, quarantineDir, name, part)); err != nil {
			return "", err
		}
		moved = name
	}
	return moved, nil
}

// quarantine moves blocks that cannot be opened out of the way and returns
// their names.
func quarantine(dir string, logger *slog.Logger) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var moved []string
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err = readBlock(path, logger); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Join(dir, quarantineDir), 0o750); err != nil {
			return moved, err
		}
		if rerr := os.Rename(path, filepath.Join(dir, quarantineDir, e.Name())); rerr != nil {
			return moved, rerr
		}
		logger.Error("damaged block moved aside; its samples are missing from now on", "block", e.Name(), "to", quarantineDir,
			"written_at", ulid.Time(id.Time()).UTC(), "err", err)
		moved = append(moved, e.Name())
	}
	return moved, nil
}

// readBlock opens a block and closes it again. On some damage the library
// panics, which is damage like any other here.
func readBlock(path string, logger *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading the block: %v", p)
		}
	}()
	block, err := tsdb.OpenBlock(logger, path, nil, nil)
	if err != nil {
		return err
	}
	return block.Close()
}
