package store_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"aiops/internal/store"
)

// A power cut: the writer works on a file system in a loop-mounted image. It is
// stopped, the image is copied as the disk has it, and the copy is mounted and
// opened. What was not synced is in the page cache only, and so not in the copy.

// disk is an ext4 file system in a file, which commits only when asked to.
type disk struct {
	t     *testing.T
	image string
	dir   string
}

func requireLoop(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

func run(t *testing.T, name string, args ...string) error {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

func newDisk(t *testing.T, sizeMiB int64) *disk {
	t.Helper()
	base := t.TempDir()
	d := &disk{t: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "mnt")}
	f, err := os.Create(d.image)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(sizeMiB << 20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := run(t, "mkfs.ext4", "-q", "-F", d.image); err != nil {
		t.Fatal(err)
	}
	d.mount()
	return d
}

func (d *disk) mount() {
	d.t.Helper()
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := run(d.t, "mount", "-o", "loop,commit=300", d.image, d.dir); err != nil {
		d.t.Skipf("file systems cannot be mounted here: %v", err)
	}
	d.t.Cleanup(d.unmount)
}

func (d *disk) unmount() {
	if err := run(d.t, "mountpoint", "-q", d.dir); err != nil {
		return
	}
	if err := run(d.t, "umount", d.dir); err != nil {
		_ = run(d.t, "umount", "-l", d.dir)
	}
}

// cut returns the disk as it is without the page cache of the file system on it.
func (d *disk) cut() *disk {
	d.t.Helper()
	base := d.t.TempDir()
	after := &disk{t: d.t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "mnt")}
	from, err := os.Open(d.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(after.image)
	if err != nil {
		d.t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		d.t.Fatal(err)
	}
	after.mount()
	return after
}

// powerCuts returns how many of all promises were broken after n cuts.
func powerCuts(t *testing.T, synchronous string, n int) (broken, total int) {
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	for i := range n {
		d := newDisk(t, 96)
		o := orders{Dir: filepath.Join(d.dir, "data"), Synchronous: synchronous, Run: i + 1}
		c := startChild(t, o)
		select {
		case <-c.ready:
		case <-c.done:
			t.Fatalf("the child ended: %s", c.errs)
		}
		<-time.After(time.Duration(100+r.IntN(600)) * time.Millisecond)
		if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// What was said before the cut counts; what is still in the pipe as well.
		after := d.cut()
		l := newLedger(t)
		l.add(c.kill())
		d.unmount()

		o.Dir = filepath.Join(after.dir, "data")
		s, err := store.Open(context.Background(), o.config(), slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Errorf("cut %d: the store does not open: %v", i, err)
			after.unmount()
			continue
		}
		broken += l.check(s)
		total += l.total
		l.resume(s)
		if err := s.IntegrityCheck(context.Background()); err != nil {
			t.Errorf("cut %d: %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		after.unmount()
	}
	return broken, total
}

// TestPowerCut cuts the power of a store as it is shipped: nothing that was
// acknowledged may be missing. The control syncs less and has to lose.
func TestPowerCut(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("AIOPS_POWER_CUTS"))
	if err != nil {
		t.Skip("mounts file systems; set AIOPS_POWER_CUTS to the number of power cuts to run it, as root")
	}
	requireLoop(t)
	broken, total := powerCuts(t, "", n)
	t.Logf("as shipped: %d power cuts, %d of %d acknowledged writes lost", n, broken, total)
	if broken > 0 || total < 20*n {
		t.Errorf("%d of %d acknowledged writes were lost", broken, total)
	}
	broken, total = powerCuts(t, "NORMAL", n)
	t.Logf("control, synchronous=NORMAL: %d power cuts, %d of %d acknowledged writes lost", n, broken, total)
	if broken == 0 {
		t.Error("the control lost nothing: this harness proves nothing")
	}
}
