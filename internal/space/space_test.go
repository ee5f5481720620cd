package space

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/model"
)

func TestWatermarks(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, c := range []struct {
		free, total uint64
		want        State
	}{
		{10 << 20, 64 << 20, OK}, {9 << 20, 64 << 20, Warning}, {3 << 20, 64 << 20, ReadOnly}, {0, 64 << 20, ReadOnly},
		{100 * gib, 4000 * gib, OK}, {19 * gib, 4000 * gib, Warning}, {1 * gib, 4000 * gib, ReadOnly}, {0, 0, Unknown},
		{4 * gib, 100 * gib, Warning}, {50 * gib, 100 * gib, OK},
	} {
		if got := judge(c.free, c.total); got.State != c.want {
			t.Errorf("%d of %d free is %s, want %s", c.free, c.total, got.State, c.want)
		}
	}
}

func TestADiskIsLookedAtOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks, free := 0, uint64(1<<20)
		w := &Watch{dir: "/", now: time.Now, statfs: func(string) (uint64, uint64, error) { looks++; return free, 64 << 20, nil }}
		for range 10 {
			if err := w.Room(); model.KindOf(err) != model.KindStorageFull {
				t.Fatalf("a full disk: %v", err)
			}
		}
		free = 60 << 20
		time.Sleep(time.Second)
		if err := w.Room(); err != nil || looks != 2 {
			t.Errorf("with space again: %v after %d looks", err, looks)
		}
		w.statfs = func(string) (uint64, uint64, error) { return 0, 0, errors.New("no such file") }
		time.Sleep(time.Second)
		if err := w.Room(); err != nil {
			t.Errorf("a disk that cannot be measured refuses: %v", err)
		}
	})
}

func TestARealDisk(t *testing.T) {
	t.Parallel()
	u, err := New(t.TempDir()).Usage()
	if err != nil || u.State == Unknown || u.FreeBytes == 0 || u.UsedShare < 0 || u.UsedShare > 1 {
		t.Errorf("a real disk: %+v, %v", u, err)
	}
	if _, err := New(t.TempDir() + "/missing").Usage(); err == nil {
		t.Error("a directory that is not there was measured")
	}
	var none *Watch
	if u, err := none.Usage(); err != nil || u.State != Unknown || none.Room() != nil {
		t.Errorf("no watch: %+v, %v", u, err)
	}
}
