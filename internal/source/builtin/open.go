package builtin

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
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
	return o
}

// openDatabase opens the database. The database repairs its log by itself,
// losing what was written after the damage; a block that cannot be read is
// moved aside, so that one bad block does not keep all others from being used.
func openDatabase(cfg Config, logger *slog.Logger, reg prometheus.Registerer) (db *tsdb.DB, quarantined []string, err error) {
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, nil, model.WrapError(model.KindUnavailable, model.SubjectSource, err, "the directory of the embedded database cannot be made; check its parent and permissions")
	}
	attempt := &registrar{reg: reg}
	db, err = tsdb.Open(cfg.Dir, logger, attempt, tsdbOptions(cfg), nil)
	if err == nil {
		return db, nil, nil
	}
	attempt.unregister()
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, nil, model.WrapError(model.KindConflict, model.SubjectSource, err, "another process uses the embedded database's directory; stop it, or choose another data directory")
	}
	quarantined, qerr := quarantine(cfg.Dir, logger)
	if qerr != nil {
		return nil, nil, fmt.Errorf("moving damaged blocks of the embedded database aside: %w", errors.Join(qerr, err))
	}
	if len(quarantined) > 0 {
		if db, err = tsdb.Open(cfg.Dir, logger, reg, tsdbOptions(cfg), nil); err == nil {
			return db, quarantined, nil
		}
	}
	return nil, nil, model.WrapError(model.KindUnavailable, model.SubjectSource, err,
		"the embedded database cannot be opened; its files may be damaged: move the directory \"metrics\" in the data directory aside to start with an empty one")
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
		block, err := tsdb.OpenBlock(logger, path, nil, nil)
		if err == nil {
			if err := block.Close(); err != nil {
				return moved, err
			}
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
