package builtin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/model"
)

// crashEnv makes the test binary be the process that is killed.
const crashEnv = "AIOPS_TEST_CRASH_DIR"

// TestCrashWriter is not a test: it writes until it is killed, and says on its
// output what it has written.
func TestCrashWriter(t *testing.T) {
	dir := os.Getenv(crashEnv)
	if dir == "" {
		t.Skip("only started by TestKill")
	}
	s := open(t, dir, nil)
	from, err := strconv.Atoi(os.Getenv(crashEnv + "_FROM"))
	if err != nil {
		t.Fatal(err)
	}
	for i := from; ; i++ {
		var all []model.SeriesData
		for n := range 50 {
			all = append(all, series("x", fmt.Sprint(n), float64(i)*1000, float64(i)))
		}
		if err := s.Append(context.Background(), all); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("wrote %d\n", i)
	}
}

// Killed at any moment, the database opens again and has all that was
// committed.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	next := 1
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrashWriter$", "-test.v")
		cmd.Env = append(os.Environ(), crashEnv+"="+dir, fmt.Sprintf("%s_FROM=%d", crashEnv, next))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stop := rand.IntN(200) + 1
		written := 0
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); {
			word, number, _ := strings.Cut(lines.Text(), " ")
			if word != "wrote" {
				continue
			}
			written, _ = strconv.Atoi(number)
			if n++; n == stop {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait() // it was killed
		if written < next {
			t.Fatalf("round %d: the writer wrote nothing", round)
		}
		s := open(t, dir, nil)
		got, err := s.Query(context.Background(), fmt.Sprintf("count_over_time(x[%ds:1s])", written), time.UnixMilli(int64(written)*1000), 0)
		if err != nil || len(got) != 50 {
			t.Fatalf("round %d: %d series, %v", round, len(got), err)
		}
		for _, d := range got {
			if d.Samples[0].V != float64(written) {
				t.Fatalf("round %d: %s has %v of %d samples", round, d.Labels, d.Samples[0].V, written)
			}
		}
		next = written + 2 // the next one may have been written without being told
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, nil)
	_, err := Open(Config{Dir: dir}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if model.KindOf(err) != model.KindConflict || !strings.Contains(err.Error(), "another process uses") {
		t.Errorf("%v, want KindConflict that says so", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, nil).Close(); err != nil {
		t.Errorf("after the other closed: %v", err)
	}
}

// fill makes a database of several blocks and a log.
func fill(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir, nil)
	hour := float64(time.Hour / time.Millisecond)
	for at := 0.0; at < 9*hour; at += 60_000 {
		if err := s.Append(context.Background(), []model.SeriesData{series("x", "a", at, at)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(s.db.Blocks()) < 2 {
		t.Fatalf("%d blocks, so the test proves nothing", len(s.db.Blocks()))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedBlockIsMovedAside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fill(t, dir)
	indexes, err := filepath.Glob(filepath.Join(dir, "*", "index"))
	if err != nil || len(indexes) < 2 {
		t.Fatal(indexes, err)
	}
	if err := os.Truncate(indexes[0], 10); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, nil)
	defer s.Close()
	block := filepath.Base(filepath.Dir(indexes[0]))
	if got := fmt.Sprint(s.Details()["damaged"]); got != "["+block+"]" {
		t.Errorf("damaged %s, want %s", got, block)
	}
	if _, err := os.Stat(filepath.Join(dir, quarantineDir, block)); err != nil {
		t.Errorf("the damaged block was not kept: %v", err)
	}
	got, err := s.Query(context.Background(), "x", time.UnixMilli(int64(9*time.Hour/time.Millisecond)), 0)
	if err != nil || len(got) != 1 {
		t.Errorf("what is not damaged: %v, %v", got, err)
	}
}

// Whatever happens to the files, opening gives a database or an error that says
// what to do, and never a panic; with a database, the samples that it gives are
// true ones.
//
// It runs in a process of its own, because the library leaves goroutines behind
// when it cannot open a database.
func TestMutilatedFiles(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMutilatedFilesHere$", "-test.v")
	cmd.Env = append(os.Environ(), crashEnv+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMutilatedFilesHere(t *testing.T) {
	if os.Getenv(crashEnv) == "" {
		t.Skip("only started by TestMutilatedFiles")
	}
	pristine := t.TempDir()
	fill(t, pristine)
	var files []string
	err := filepath.WalkDir(pristine, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(pristine, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	opened := 0
	const rounds = 30
	for round := range rounds {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(pristine)); err != nil {
			t.Fatal(err)
		}
		victim := files[rng.IntN(len(files))]
		how := mutilate(t, rng, filepath.Join(dir, victim))
		s, err := Open(Config{Dir: dir, Host: HostConfig{Disabled: true}}, slog.New(slog.NewTextHandler(io.Discard, nil)), prometheus.NewRegistry())
		if err != nil {
			var e *model.Error
			if !errors.As(err, &e) || e.Message == "" {
				t.Errorf("round %d, %s %s: %v, want an error that says what to do", round, victim, how, err)
			}
			continue
		}
		opened++
		got, err := s.QueryRange(context.Background(), "x", time.UnixMilli(0), time.UnixMilli(9*3600*1000), time.Minute, 0)
		if err == nil {
			for _, d := range got {
				for _, p := range d.Samples {
					// The lookback repeats a value for at most five minutes.
					if age := float64(p.T) - p.V; age < 0 || age > 300_000 {
						t.Fatalf("round %d, %s %s: at %d the value is %v", round, victim, how, p.T, p.V)
					}
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Logf("round %d, %s %s: closing: %v", round, victim, how, err)
		}
	}
	if opened < rounds {
		t.Errorf("only %d of %d databases could be opened", opened, rounds)
	}
}

func mutilate(t *testing.T, rng *rand.Rand, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	how := ""
	switch kind := rng.IntN(5); {
	case kind == 0:
		how = "removed"
		err = os.Remove(path)
	case kind == 1 || len(data) == 0:
		how = "replaced"
		err = os.WriteFile(path, []byte("this is not the file you are looking for"), 0o600)
	case kind == 2:
		how = "cut"
		err = os.WriteFile(path, data[:rng.IntN(len(data))], 0o600)
	case kind == 3:
		how = "zeroed in part"
		from := rng.IntN(len(data))
		clear(data[from:min(len(data), from+4096)])
		err = os.WriteFile(path, data, 0o600)
	default:
		how = "flipped"
		data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return how
}

// After a stop of any kind, what this program scraped has an end; what came
// from elsewhere goes on.
func TestInterruptedSeriesEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	targets := func(c *Config) { c.Targets = []Target{{Job: "shop", URLs: []string{"http://127.0.0.1:1"}}} }
	s := open(t, dir, targets)
	var all []model.SeriesData
	for _, job := range []string{"aiops", "node", "shop", "elsewhere"} {
		all = append(all, model.SeriesData{
			Labels:  model.LabelsFromMap(map[string]string{"__name__": "x", "job": job}),
			Samples: []model.Sample{{T: 1_000_000, V: 1}, {T: 1_005_000, V: 2}},
		})
	}
	if err := s.Append(context.Background(), all); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, targets)
	defer s.Close()
	for at, want := range map[int64]int{1_005_000: 4, 1_006_000: 1} {
		got, err := s.Query(context.Background(), "x", time.UnixMilli(at), 0)
		if err != nil || len(got) != want {
			t.Errorf("at %d: %v, %v, want %d series", at, got, err, want)
		}
	}
}

// The clock may jump: forward and back again, within the out-of-order window.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{10 * time.Minute, time.Hour, 24 * time.Hour, 47 * time.Hour} {
		s := setup(t, nil)
		s.collectors = []*collector{newCollector("host/x", "host", jobHost, originHost, 10, func(e *emitter) error { e.emit("x", 1); return nil })}
		done := make(chan reading, 1)
		ctx := context.Background()
		base := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
		round := uint64(0)
		play := func(at int64) {
			for i := range int64(10) {
				round++
				s.round(ctx, at+i*5000, round, done)
			}
		}
		play(base)
		play(base + jump.Milliseconds())
		play(base + 50_000)
		if h := s.collectors[0].status(); h.State != model.CollectorUp {
			t.Errorf("after a jump of %s and back: %+v", jump, h)
		}
		got, err := s.Query(ctx, "count_over_time(x[100s])", time.UnixMilli(base+95_000), 0)
		if err != nil || len(got) != 1 || got[0].Samples[0].V != 20 {
			t.Errorf("after a jump of %s and back: %v, %v, want 20 samples", jump, got, err)
		}
	}
}

// A jump beyond the window cannot be mended; it must be said.
func TestClockJumpTooFar(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	s.collectors = []*collector{newCollector("host/x", "host", jobHost, originHost, 10, func(e *emitter) error { e.emit("x", 1); return nil })}
	done := make(chan reading, 1)
	base := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	s.round(context.Background(), base+(100*24*time.Hour).Milliseconds(), 1, done)
	late := s.collectors[0].collect("test", 2)
	err := s.commit(context.Background(), base, 2, []reading{late})
	if model.KindOf(err) != model.KindDatabase || !strings.Contains(err.Error(), "holds samples from 2400h0m0s ahead of now; the clock was wrong") {
		t.Errorf("%v, want an error that tells of the clock", err)
	}
}
