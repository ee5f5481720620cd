package bench

import (
	"archive/tar"
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/ulikunitz/xz"
)

// Series is one labelled series of the corpus. Labels are for the measures
// only: no detector is given them.
type Series struct {
	Dataset string
	Name    string
	T       []int64 // milliseconds
	V       []float64
	Label   []bool
	Train   int    // rows at the start that are not measured, for all but NAB
	Windows []Span // NAB's labelled windows; for the others the runs of Label
}

// maxArchivedFile bounds one file of the archive.
const maxArchivedFile = 64 << 20

// accuracyDatasets are the folders that are read, in the order of the report.
func accuracyDatasets() []string { return []string{"NAB", "CMD", "TODS", "AIOPS", "WSD", "UCR"} }

// loadCorpus reads the folders and more.tar.xz of dir. Only data sets in only
// are kept; an empty list keeps all. Series are sorted by data set and name.
func loadCorpus(dir string, only []string) ([]Series, error) {
	train, err := loadTrainLengths(filepath.Join(dir, "meta.csv"))
	if err != nil {
		return nil, err
	}
	keep := func(dataset string) bool {
		if len(only) == 0 {
			return true
		}
		for _, o := range only {
			if o == dataset {
				return true
			}
		}
		return false
	}
	var corpus []Series
	for _, dataset := range accuracyDatasets() {
		if !keep(dataset) {
			continue
		}
		found, err := loadFolder(filepath.Join(dir, dataset), dataset)
		if err != nil {
			return nil, err
		}
		corpus = append(corpus, found...)
	}
	archived, err := loadArchive(filepath.Join(dir, "more.tar.xz"), keep)
	if err != nil {
		return nil, err
	}
	corpus = append(corpus, archived...)
	if len(corpus) == 0 {
		return nil, fmt.Errorf("no series in %s: expected folders %s with CSV files", dir,
			strings.Join(accuracyDatasets(), ", "))
	}
	for i := range corpus {
		corpus[i].Train = min(train[corpus[i].Dataset+"/"+corpus[i].Name], len(corpus[i].V))
	}
	sort.SliceStable(corpus, func(i, j int) bool {
		if corpus[i].Dataset != corpus[j].Dataset {
			return corpus[i].Dataset < corpus[j].Dataset
		}
		return corpus[i].Name < corpus[j].Name
	})
	return corpus, nil
}

// loadTrainLengths reads meta.csv. Without it every series is measured from
// its first row.
func loadTrainLengths(path string) (map[string]int, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]int{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the list of series: %w", err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	lengths := map[string]int{}
	for i, row := range rows {
		if i == 0 || len(row) < 5 {
			continue
		}
		n, err := strconv.Atoi(row[4])
		if err != nil {
			return nil, fmt.Errorf("reading %s: row %d: n_train %q is not a number", path, i+1, row[4])
		}
		lengths[row[0]+"/"+row[1]] = n
	}
	return lengths, nil
}

func loadFolder(dir, dataset string) ([]Series, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.csv"))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", dir, err)
	}
	windows, err := loadWindows(filepath.Join(dir, "windows.json"))
	if err != nil {
		return nil, err
	}
	var out []Series
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("opening a series: %w", err)
		}
		s, err := readLabelled(f, dataset, strings.TrimSuffix(filepath.Base(file), ".csv"))
		f.Close()
		if err != nil {
			return nil, err
		}
		if windows != nil {
			s.Windows, err = windowRows(s, windows[strings.Replace(s.Name, "__", "/", 1)+".csv"])
			if err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// loadArchive reads the series of a tar.xz; a missing archive holds none.
func loadArchive(path string, keep func(dataset string) bool) ([]Series, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the archive: %w", err)
	}
	defer f.Close()
	plain, err := xz.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", path, err)
	}
	var out []Series
	for archive := tar.NewReader(plain); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking %s: %w", path, err)
		}
		dataset, name := filepath.Base(filepath.Dir(h.Name)), filepath.Base(h.Name)
		if h.Typeflag != tar.TypeReg || !strings.HasSuffix(name, ".csv") || !keep(dataset) {
			continue
		}
		s, err := readLabelled(io.LimitReader(archive, maxArchivedFile), dataset, strings.TrimSuffix(name, ".csv"))
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
}

// readLabelled reads timestamp,value,label.
func readLabelled(r io.Reader, dataset, name string) (Series, error) {
	s := Series{Dataset: dataset, Name: name}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if n == 1 || line == "" {
			continue
		}
		stamp, rest, _ := strings.Cut(line, ",")
		value, label, ok := strings.Cut(rest, ",")
		if !ok {
			return Series{}, fmt.Errorf("reading %s/%s: line %d: expected timestamp,value,label", dataset, name, n)
		}
		t, err := parseTimestamp(stamp)
		if err != nil {
			return Series{}, fmt.Errorf("reading %s/%s: line %d: %w", dataset, name, n, err)
		}
		v, err := parseValue(value)
		if err != nil {
			return Series{}, fmt.Errorf("reading %s/%s: line %d: %w", dataset, name, n, err)
		}
		s.T = append(s.T, t)
		s.V = append(s.V, v)
		s.Label = append(s.Label, strings.HasPrefix(label, "1"))
	}
	if err := lines.Err(); err != nil {
		return Series{}, fmt.Errorf("reading %s/%s: %w", dataset, name, err)
	}
	s.Windows = labelSpans(s.Label)
	return s, nil
}

func loadWindows(path string) (map[string][][]string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the labelled windows: %w", err)
	}
	var w map[string][][]string
	if err := json.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", path, err)
	}
	return w, nil
}

// windowRows turns windows given by their first and last timestamp into rows.
func windowRows(s Series, windows [][]string) ([]Span, error) {
	var spans []Span
	for _, w := range windows {
		if len(w) != 2 {
			return nil, fmt.Errorf("reading the windows of %s: expected [first, last]", s.Name)
		}
		var at [2]int64
		for i, text := range w {
			t, err := parseTimestamp(text)
			if err != nil {
				return nil, fmt.Errorf("reading the windows of %s: %w", s.Name, err)
			}
			at[i] = t
		}
		first := sort.Search(len(s.T), func(i int) bool { return s.T[i] >= at[0] })
		last := sort.Search(len(s.T), func(i int) bool { return s.T[i] > at[1] }) - 1
		if last >= first {
			spans = append(spans, Span{first, last})
		}
	}
	sort.Slice(spans, func(i, j int) bool { return spans[i].First < spans[j].First })
	return spans, nil
}

// parseTimestamp reads epoch seconds, RFC 3339, or a date and time without
// zone, taken as UTC, and returns milliseconds.
func parseTimestamp(text string) (int64, error) {
	text = strings.TrimSpace(text)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n > 1<<43 || n < -(1<<43) {
			return 0, fmt.Errorf("timestamp %q is out of range: give epoch seconds", text)
		}
		return n * 1000, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UnixMilli(), nil
		}
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f > -1e12 && f < 1e12 {
		return int64(f * 1000), nil
	}
	return 0, fmt.Errorf("timestamp %q is neither RFC 3339 nor epoch seconds", text)
}
