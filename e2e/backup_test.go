package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackupBesideAServerRestores takes backups while a server writes and
// starts another one from each: it has everything that was acknowledged before
// the backup began.
func TestBackupBesideAServerRestores(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), "serve")
	acknowledged := map[string]string{}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := range 2000 { // a bound, should the test hang
			select {
			case <-stop:
				return
			default:
				create(s.url, fmt.Sprintf("beside %d", n))
			}
		}
	}()
	dir := t.TempDir()
	for n := range 3 {
		name := fmt.Sprintf("before backup %d", n)
		id := create(s.url, name)
		if id == "" {
			t.Fatal("the detector was not created")
		}
		acknowledged[name] = id
		file := filepath.Join(dir, fmt.Sprint("backup", n))
		if out, err := exec.Command(binary, "backup", "--data-dir", s.dir, "--to", file).CombinedOutput(); err != nil {
			t.Fatalf("aiops backup: %v\n%s", err, out)
		}
		restored := filepath.Join(dir, fmt.Sprint("restored", n))
		if out, err := exec.Command(binary, "restore", "--data-dir", restored, "--from", file).CombinedOutput(); err == nil || !strings.Contains(string(out), "master.key") {
			t.Fatalf("restoring without the master key: %v\n%s", err, out)
		}
		key, err := os.ReadFile(filepath.Join(s.dir, "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(restored, "master.key"), key, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(binary, "restore", "--data-dir", restored, "--from", file).CombinedOutput(); err != nil {
			t.Fatalf("aiops restore: %v\n%s", err, out)
		}
		other := start(t, restored, "serve")
		verify(t, other, acknowledged)
		if code := other.terminate(20 * time.Second); code != 0 {
			t.Errorf("the restored server ended with %d", code)
		}
	}
	close(stop)
	<-stopped
	if out, err := exec.Command(binary, "restore", "--data-dir", s.dir, "--from", filepath.Join(dir, "backup0")).CombinedOutput(); err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("restoring under a running server: %v\n%s", err, out)
	}
	if status, _ := s.get("/readyz"); status != http.StatusOK {
		t.Errorf("after that the server answers %d", status)
	}
}
