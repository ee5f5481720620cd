package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestAFullDisk fills the disk below a running program: writes are refused
// with an answer that says so, reads and probes go on, and writes work again
// when there is space, without a restart.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		if os.Getenv("CI") != "" && !errors.Is(err, syscall.EPERM) {
			t.Fatal(err)
		}
		t.Skipf("a small file system cannot be mounted here, which needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := start(t, filepath.Join(dir, "data"), "serve")
	kept := create(s.url, "before")
	if kept == "" {
		t.Fatal("a write before the disk is full was refused")
	}
	fill := filepath.Join(dir, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(block)
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}

	began := time.Now()
	status, body := s.send(http.MethodPost, "/api/v1/detectors", map[string]any{"name": "while full", "query": "up"})
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusInsufficientStorage || p.Code != "STORAGE_FULL" || p.Retryable == nil || !*p.Retryable {
		t.Errorf("a write on a full disk: %d\n%s", status, body)
	}
	if took := time.Since(began); took > time.Second && !raced {
		t.Errorf("the refusal took %s", took)
	}
	for _, path := range []string{"/api/v1/detectors", "/livez", "/readyz"} {
		if status, body := s.get(path); status != http.StatusOK {
			t.Errorf("%s on a full disk: %d\n%s", path, status, body)
		}
	}

	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	s.eventually(10*time.Second, "writes work again", func() error {
		if create(s.url, "after") == "" {
			return errors.New("refused")
		}
		return nil
	})
	if n := missing(s, map[string]string{"before": kept}); n != 0 {
		t.Error("what was acknowledged before is gone")
	}
	if code := s.terminate(30 * time.Second); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}
