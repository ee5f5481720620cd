package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// remoteWrite sends one sample.
func remoteWrite(t *testing.T, s *server) (status int, body []byte) {
	t.Helper()
	message, err := proto.Marshal(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "written"}},
		Samples: []prompb.Sample{{Timestamp: time.Now().UnixMilli(), Value: 1}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(s.url+"/api/v1/write", "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, message)))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

// TestAFullDisk fills the disk below a running program: it warns, then every
// way to write is refused with an answer that says so, reads and probes go on,
// and writes work again when there is space, without a restart.
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
	defer f.Close() // again, if the test ends early
	// leave fills the disk up to a few bytes.
	leave := func(left uint64) {
		t.Helper()
		var disk syscall.Statfs_t
		if err := syscall.Statfs(dir, &disk); err != nil {
			t.Fatal(err)
		}
		block := make([]byte, 64<<10)
		for free := disk.Bavail * uint64(disk.Bsize); free > left; free -= uint64(len(block)) {
			if _, err := f.Write(block); err != nil {
				t.Fatalf("filling the disk: %v", err)
			}
		}
	}
	// inSystem waits until the health of the system says something.
	inSystem := func(state, text string) {
		t.Helper()
		s.eventually(20*time.Second, "the system is "+state, func() error {
			var got struct{ Status, Message string }
			if _, body := s.get("/health/system"); json.Unmarshal(body, &got) != nil || got.Status != state || !strings.Contains(got.Message, text) {
				return fmt.Errorf("%s", body)
			}
			return nil
		})
	}
	leave(10 << 20)
	inSystem("degraded", "free some space soon")
	leave(3 << 20) // enough for each of the requests below, so that only the watermark refuses them
	inSystem("unhealthy", "writes are refused")

	began := time.Now()
	status, body := s.send(http.MethodPost, "/api/v1/detectors", map[string]any{"name": "while full", "query": "up"})
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusInsufficientStorage || p.Code != "STORAGE_FULL" || p.Retryable == nil || !*p.Retryable {
		t.Errorf("a write on a full disk: %d\n%s", status, body)
	}
	for path, want := range map[string]int{"/loki/api/v1/push": 507, "/v1/logs": 503} { // OTLP has no other that is sent again
		status, body := s.send(http.MethodPost, path, map[string]any{
			"streams":      []any{map[string]any{"stream": map[string]string{"app": "x"}, "values": [][]string{{fmt.Sprint(time.Now().UnixNano()), "a line"}}}},
			"resourceLogs": []any{map[string]any{"scopeLogs": []any{map[string]any{"logRecords": []any{map[string]any{"body": map[string]string{"stringValue": "a line"}}}}}}},
		})
		var p problem
		if err := json.Unmarshal(body, &p); err != nil || status != want || p.Retryable == nil || !*p.Retryable {
			t.Errorf("%s on a full disk: %d\n%s", path, status, body)
		}
	}
	if status, body := remoteWrite(t, s); status != http.StatusInsufficientStorage {
		t.Errorf("remote write on a full disk: %d\n%s", status, body)
	}
	if took := time.Since(began); took > time.Second && !raced {
		t.Errorf("the refusal took %s", took)
	}
	for _, path := range []string{"/api/v1/detectors", "/livez", "/readyz"} {
		if status, body := s.get(path); status != http.StatusOK {
			t.Errorf("%s on a full disk: %d\n%s", path, status, body)
		}
	}

	if err := errors.Join(f.Close(), os.Remove(fill)); err != nil { // an open file takes space
		t.Fatal(err)
	}
	s.eventually(10*time.Second, "writes work again", func() error {
		if create(s.url, "after") == "" {
			return errors.New("refused")
		}
		return nil
	})
	if status, body := remoteWrite(t, s); status != http.StatusNoContent {
		t.Errorf("remote write with space again: %d\n%s", status, body)
	}
	inSystem("healthy", "")
	if n := missing(s, map[string]string{"before": kept}); n != 0 {
		t.Error("what was acknowledged before is gone")
	}
	if code := s.terminate(30 * time.Second); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
}
