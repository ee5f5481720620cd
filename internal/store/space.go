package store

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"aiops/internal/model"
)

// SpaceState says how full the disk of the data is.
type SpaceState string

// The states of the disk. From SpaceReadOnly on writes are refused with
// KindStorageFull, so that what is left suffices to start and to clean up.
const (
	SpaceOK       SpaceState = "ok"
	SpaceWarning  SpaceState = "warning"
	SpaceReadOnly SpaceState = "read_only"
	SpaceUnknown  SpaceState = "unknown" // the data lives on another machine
)

// The watermarks. A share of a large disk can still be plenty: both the share
// and the free bytes have to be crossed.
const (
	warnShare     = 0.85
	warnFree      = 20 << 30
	readOnlyShare = 0.95
	readOnlyFree  = 2 << 30
	spaceEvery    = time.Second
)

// Space is how full the file system of the data is.
type Space struct {
	State      SpaceState
	UsedShare  float64 // 0 to 1, of what this process may use
	FreeBytes  uint64
	TotalBytes uint64
}

// spaceWatch measures the disk at most once a second. The zero value watches
// nothing.
type spaceWatch struct {
	dir    string
	now    func() time.Time
	statfs func(dir string) (free, total uint64, err error)

	mu      sync.Mutex
	checked time.Time
	last    Space
}

func statfs(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("measuring the disk: %w", err)
	}
	// What is reserved for root is neither free nor usable for us.
	used := st.Blocks - st.Bfree
	return st.Bavail * uint64(st.Bsize), (used + st.Bavail) * uint64(st.Bsize), nil
}

func (w *spaceWatch) space() (Space, error) {
	if w.dir == "" {
		return Space{State: SpaceUnknown}, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if !w.checked.IsZero() && now.Sub(w.checked) < spaceEvery {
		return w.last, nil
	}
	free, total, err := w.statfs(w.dir)
	if err != nil {
		return Space{State: SpaceUnknown}, err
	}
	w.checked = now
	w.last = judgeSpace(free, total)
	return w.last, nil
}

func judgeSpace(free, total uint64) Space {
	sp := Space{State: SpaceOK, FreeBytes: free, TotalBytes: total}
	if total == 0 {
		sp.State = SpaceUnknown
		return sp
	}
	sp.UsedShare = 1 - float64(free)/float64(total)
	switch {
	case sp.UsedShare >= readOnlyShare && free < readOnlyFree:
		sp.State = SpaceReadOnly
	case sp.UsedShare >= warnShare && free < warnFree:
		sp.State = SpaceWarning
	}
	return sp
}

// refuse returns an error when the disk is too full to write. A disk that
// cannot be measured is no reason to refuse.
func (w *spaceWatch) refuse() error {
	sp, err := w.space()
	if err != nil || sp.State != SpaceReadOnly {
		return nil //nolint:nilerr // space that cannot be measured does not forbid writing
	}
	e := model.Errorf(model.KindStorageFull, "", "the disk of the data directory is %.0f %% full; free space on it", sp.UsedShare*100)
	e.RetryAfter = retryStorageFull
	return e
}

// Space measures the file system that holds the data. On PostgreSQL the state
// is SpaceUnknown: its disk is its own to watch.
func (s *Store) Space() (Space, error) { return s.space.space() }
