package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// labelled makes a file of n rows whose values jump at the labelled rows.
func labelled(n int, step int64, spikes ...int) string {
	var b strings.Builder
	b.WriteString("timestamp,value,label\n")
	at := 0
	for i := range n {
		v, label := 10+math.Sin(float64(i)*float64(i)), 0
		if at < len(spikes) && spikes[at] == i {
			v, label, at = 60, 1, at+1
		}
		fmt.Fprintf(&b, "%d,%.4f,%d\n", 1_600_000_000+int64(i)*step, v, label)
	}
	return b.String()
}

// corpusDir makes a small corpus with every data set, some in the archive.
func corpusDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("NAB/real__one.csv", labelled(1000, 300, 600))
	write("NAB/real__two.csv", labelled(1000, 300, 700))
	first, last := "2020-09-15 12:46:40", "2020-09-15 14:26:40" // rows 580 to 600
	write("NAB/windows.json", fmt.Sprintf(`{"real/one.csv": [[%q, %q]], "real/two.csv": []}`, first, last))
	write("CMD/a.csv", labelled(800, 3600, 500, 501))
	write("meta.csv", "dataset,series,n,dims,n_train,x\nUCR,u,3000,1,1000,0\nWSD,w,900,1,450,0\n")
	var packed bytes.Buffer
	z, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewWriter(z)
	for name, text := range map[string]string{
		"UCR/u.csv": labelled(3000, 1, 2000), "WSD/w.csv": labelled(900, 60, 700), "WSD/notes.txt": "no series",
	} {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write("more.tar.xz", packed.String())
	return dir
}

func TestAccuracyOfASmallCorpus(t *testing.T) {
	t.Parallel()
	calls := 0
	r, err := Accuracy(context.Background(), AccuracyOptions{Data: corpusDir(t), Models: []string{"auto", "robust_zscore"},
		Workers: 2, Progress: func(done, total int) {
			calls++
			if done != calls || total != 10 {
				t.Errorf("progress %d of %d at call %d", done, total, calls)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Series != 5 || r.Samples != 6700 || len(r.Models) != 2 || calls != 10 {
		t.Fatalf("%d series, %d samples, %d models, %d calls", r.Series, r.Samples, len(r.Models), calls)
	}
	for _, m := range r.Models {
		if float64(m.UCR) != 1 {
			t.Errorf("%s: UCR %v: the spike was not found", m.Model, m.UCR)
		}
		if v := float64(m.VUSPR["WSD"]); !(v > 0.5) {
			t.Errorf("%s: VUS-PR of a single clear spike %v", m.Model, v)
		}
		if v := float64(m.NAB["standard"]); !(v > 0 && v <= 100) {
			t.Errorf("%s: NAB %v", m.Model, v)
		}
		if m.SizeBytes <= 0 || !(m.SamplesPerS > 0) {
			t.Errorf("%s: %d bytes, %v samples a second", m.Model, m.SizeBytes, m.SamplesPerS)
		}
	}
	var table, encoded bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "robust_zscore") {
		t.Errorf("table: %v\n%s", err, table.String())
	}
	if err := r.WriteJSON(&encoded); err != nil || !json.Valid(encoded.Bytes()) {
		t.Errorf("JSON: %v", err)
	}
}

func TestAccuracyWindowsBecomeRows(t *testing.T) {
	t.Parallel()
	corpus, err := loadCorpus(corpusDir(t), []string{"NAB"})
	if err != nil {
		t.Fatal(err)
	}
	if len(corpus) != 2 || len(corpus[0].Windows) != 1 || corpus[0].Windows[0] != (Span{580, 600}) || len(corpus[1].Windows) != 0 {
		t.Errorf("windows %v and %v", corpus[0].Windows, corpus[1].Windows)
	}
}

func TestAccuracySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	if _, err := Accuracy(context.Background(), AccuracyOptions{Data: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "no series") {
		t.Errorf("an empty folder: %v", err)
	}
	dir := corpusDir(t)
	if _, err := Accuracy(context.Background(), AccuracyOptions{Data: dir, Models: []string{"none"}}); err == nil {
		t.Error("an unknown model was accepted")
	}
	if err := os.WriteFile(filepath.Join(dir, "CMD", "bad.csv"), []byte("timestamp,value,label\n0,1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Accuracy(context.Background(), AccuracyOptions{Data: dir}); err == nil || !strings.Contains(err.Error(), "CMD/bad: line 2") {
		t.Errorf("a bad row: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Accuracy(ctx, AccuracyOptions{Data: corpusDir(t)}); err == nil {
		t.Error("a cancelled run ended without error")
	}
}

func TestSpeedMeasuresEveryModel(t *testing.T) {
	t.Parallel()
	r, err := Speed(context.Background(), SpeedOptions{Samples: 400})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range r.Models {
		seen[m.Model] = true
		if !(m.SamplesPerS > 0) || m.SizeBytes <= 0 || m.SnapshotBytes <= 0 || m.Samples <= 0 {
			t.Errorf("%+v", m)
		}
	}
	if !seen["auto"] || !seen["deep"] || !seen["threshold"] {
		t.Errorf("models %v", seen)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "isolation_forest") {
		t.Errorf("table: %v\n%s", err, table.String())
	}
}
