package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/space"
	"aiops/internal/store"
)

// TestSyncErrors lets every sync from the k-th on fail. The store must not
// acknowledge anything after the first failure, must say that it failed, and
// must have everything it acknowledged at the next start.
func TestSyncErrors(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	if out, err := exec.Command(strace, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace may not trace here: %s", out)
	}
	points := []int{12, 25, 60}
	if n := kills(t, 0); n > 0 {
		points = nil
		for k := range min(n, 50) {
			points = append(points, 3+2*k)
		}
	}
	for _, k := range points {
		t.Run(fmt.Sprint("from sync ", k), func(t *testing.T) {
			dir := t.TempDir()
			trace := filepath.Join(dir, "trace")
			o := orders{Dir: filepath.Join(dir, "data"), Run: 1}
			c := startChild(t, o, strace, "-f", "-ttt", "-o", trace, "-e", "trace=fsync,fdatasync",
				"-e", fmt.Sprintf("inject=fsync,fdatasync:error=EIO:when=%d+", k))
			select {
			case <-c.done:
			case <-time.After(60 * time.Second):
				t.Error("the writer goes on although nothing can be synced")
				c.kill()
			}
			lines := c.wait()
			first, failures := firstFailure(t, trace)
			if failures == 0 {
				t.Fatalf("no sync failed: %s", c.errs)
			}
			if code := c.cmd.ProcessState.ExitCode(); code != childFailed && code != childBroken {
				t.Errorf("the child ended with %d: %s", code, c.errs)
			}
			select {
			case <-c.ready:
				if c.cmd.ProcessState.ExitCode() != childFailed {
					t.Errorf("the store does not say that it failed: %s", c.errs)
				}
			default: // it failed while it opened
			}
			// A promise may be spoken a moment after the sync that it rests on.
			for i, at := range c.at {
				if at.Sub(first) > 500*time.Millisecond && !strings.HasPrefix(lines[i], "try") {
					t.Errorf("%q was acknowledged %v after the first failure", lines[i], at.Sub(first))
				}
			}
			l := newLedger(t)
			l.add(lines)
			s := l.reopen(o)
			defer s.Close()
			if broken := l.check(s); broken > 0 {
				t.Errorf("%d promises were broken", broken)
			}
			l.retry(s)
			if err := s.IntegrityCheck(context.Background()); err != nil {
				t.Error(err)
			}
			t.Logf("%d acknowledged, %d syncs failed", l.total, failures)
		})
	}
}

// firstFailure reads from a trace when the first sync failed.
func firstFailure(t *testing.T, path string) (time.Time, int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var first time.Time
	n := 0
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.Contains(line, "EIO") {
			continue
		}
		sec, err := strconv.ParseFloat(f[1], 64)
		if err != nil {
			t.Fatalf("trace line %q", line)
		}
		if n++; n == 1 {
			first = time.UnixMicro(int64(sec * 1e6))
		}
	}
	return first, n
}

// TestFullDisk fills a small file system: writes are refused by name and at
// once, reads go on, and writes succeed again when there is space, without a
// restart.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("file systems cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name  string
		watch bool // the store looks at the disk before it writes
	}{{"seen before writing", true}, {"found while writing", false}} {
		t.Run(c.name, func(t *testing.T) {
			cfg := store.Config{DataDir: filepath.Join(dir, strconv.FormatBool(c.watch))}
			s, err := store.Open(t.Context(), cfg, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if !c.watch {
				s.IgnoreSpace()
			}
			fillDisk(t, s, dir, c.watch)
		})
	}
}

func fillDisk(t *testing.T, s *store.Store, dir string, watched bool) {
	d, err := s.CreateDetector(t.Context(), model.Detector{Name: "kept"})
	if err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<16); ; {
		if _, err := f.Write(block); err != nil {
			break // full
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var acked []string
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ {
		begin := time.Now()
		got, err := s.CreateDetector(t.Context(), model.Detector{Name: fmt.Sprint("d", i), Query: strings.Repeat("x", 50_000)})
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("an answer took %v", took)
		}
		if err != nil {
			var typed *model.Error
			if !errors.As(err, &typed) || typed.Kind != model.KindStorageFull || typed.RetryAfter <= 0 {
				t.Fatalf("a full disk is %v", err)
			}
			break
		}
		if acked = append(acked, got.ID); time.Now().After(deadline) {
			t.Fatal("the disk does not fill up")
		}
	}
	disk := space.New(dir)
	for watch := time.Now(); watched; { // the disk is looked at once a second
		sp, err := disk.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if sp.State == space.ReadOnly {
			break
		}
		if time.Since(watch) > 5*time.Second {
			t.Fatalf("space is %+v", sp)
		}
		<-time.After(20 * time.Millisecond)
	}
	for _, id := range append(acked, d.ID) { // reads go on
		if _, err := s.Detector(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if s.Err() != nil {
		t.Fatalf("a full disk made the store fail: %v", s.Err())
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	freed := time.Now()
	for {
		_, err := s.CreateDetector(t.Context(), model.Detector{Name: "after"})
		if err == nil {
			break
		}
		if time.Since(freed) > 10*time.Second {
			t.Fatalf("writes do not recover: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
	for _, id := range acked {
		if _, err := s.Detector(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if err := s.IntegrityCheck(t.Context()); err != nil {
		t.Error(err)
	}
}
