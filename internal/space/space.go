// Package space watches how full a file system is, so that the program stops
// writing while there is still room to start, to recover and to clean up. It
// imports model alone.
package space

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"aiops/internal/model"
)

// State says how full the file system is.
type State string

// The states. From ReadOnly on writes are refused.
const (
	OK       State = "ok"
	Warning  State = "warning"
	ReadOnly State = "read_only"
	Unknown  State = "unknown"
)

// The watermarks. A share of a large disk can still be plenty: both the share
// and the free bytes have to be crossed.
const (
	warnShare     = 0.85
	warnFree      = 20 << 30
	readOnlyShare = 0.95
	readOnlyFree  = 2 << 30
	every         = time.Second
	retryAfter    = 10 * time.Second
)

// Usage is how full a file system is.
type Usage struct {
	State     State
	UsedShare float64 // 0 to 1, of what this process may use
	FreeBytes uint64
}

// Watch measures a file system at most once a second. It is safe for
// concurrent use. A nil Watch knows nothing and refuses nothing.
type Watch struct {
	dir    string
	now    func() time.Time
	statfs func(dir string) (free, total uint64, err error)

	mu      sync.Mutex
	checked time.Time
	last    Usage
}

// New watches the file system that dir is on.
func New(dir string) *Watch {
	return &Watch{dir: dir, now: time.Now, statfs: statfs}
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

// Usage returns what was measured less than a second ago, or measures.
func (w *Watch) Usage() (Usage, error) {
	if w == nil {
		return Usage{State: Unknown}, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if !w.checked.IsZero() && now.Sub(w.checked) < every {
		return w.last, nil
	}
	free, total, err := w.statfs(w.dir)
	if err != nil {
		return Usage{State: Unknown}, err
	}
	w.checked = now
	w.last = judge(free, total)
	return w.last, nil
}

func judge(free, total uint64) Usage {
	u := Usage{State: OK, FreeBytes: free}
	if total == 0 {
		u.State = Unknown
		return u
	}
	u.UsedShare = 1 - float64(free)/float64(total)
	switch {
	case u.UsedShare >= readOnlyShare && free < readOnlyFree:
		u.State = ReadOnly
	case u.UsedShare >= warnShare && free < warnFree:
		u.State = Warning
	}
	return u
}

// Room returns a KindStorageFull error when the file system is too full to
// write. One that cannot be measured is no reason to refuse.
func (w *Watch) Room() error {
	u, err := w.Usage()
	if err != nil || u.State != ReadOnly {
		return nil //nolint:nilerr // space that cannot be measured does not forbid writing
	}
	e := model.Errorf(model.KindStorageFull, "", "the disk of the data directory is %.0f %% full; free space on it", u.UsedShare*100)
	e.RetryAfter = retryAfter
	return e
}
