package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"aiops/internal/model"
)

// dirLock is an advisory lock on a data directory. The kernel releases it when
// the process ends, however it ends; the file stays.
type dirLock struct{ f *os.File }

// lockDir makes dir when it is missing and locks it. When another process has
// it, the error is a KindConflict with a *LockedError as its cause.
func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		held := &LockedError{Path: path}
		if b, err := os.ReadFile(path); err == nil {
			held.PID, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return nil, &model.Error{Kind: model.KindConflict, Message: held.Error(), Err: held}
	}
	// The number is for people only; the lock is what counts.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &dirLock{f}, nil
}

func (l *dirLock) release() error {
	if l == nil {
		return nil
	}
	// A child that was forked and has not yet become another program holds the
	// open file too, so closing alone would not give the lock back at once.
	unlocked := syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN)
	return errors.Join(unlocked, l.f.Close())
}
