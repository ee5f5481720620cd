package bench

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// logSet is one labelled set of log lines. The labels are for the measures
// only: the miner is given the lines.
type logSet struct {
	name  string
	lines [][]byte
	group []int    // of each line, an index into text
	text  []string // the true template of each group
}

// loadLogSets reads the sets in the folders of dir, by name. Empty only means
// all; folders without content.txt are passed over.
func loadLogSets(dir string, only []string) ([]logSet, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the folder of log sets: %w", err)
	}
	wanted := map[string]bool{}
	for _, name := range only {
		wanted[name] = true
	}
	var sets []logSet
	for _, e := range entries {
		if len(wanted) > 0 && !wanted[e.Name()] {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "content.txt")); errors.Is(err, os.ErrNotExist) {
			continue
		}
		s, err := loadLogSet(dir, e.Name())
		if err != nil {
			return nil, fmt.Errorf("loading log set %s: %w", e.Name(), err)
		}
		sets = append(sets, s)
	}
	if len(sets) == 0 {
		return nil, fmt.Errorf("no log sets in %s: each is a folder with content.txt and gt.csv", dir)
	}
	sort.Slice(sets, func(i, j int) bool { return sets[i].name < sets[j].name })
	return sets, nil
}

func loadLogSet(dir, name string) (logSet, error) {
	s := logSet{name: name}
	content, err := os.Open(filepath.Join(dir, name, "content.txt"))
	if err != nil {
		return s, err
	}
	defer content.Close()
	err = eachLine(content, func(line []byte) error {
		s.lines = append(s.lines, append([]byte(nil), line...))
		return nil
	})
	if err != nil {
		return s, err
	}
	labels, err := os.Open(filepath.Join(dir, name, "gt.csv"))
	if err != nil {
		return s, err
	}
	defer labels.Close()
	rows, err := csv.NewReader(bufio.NewReader(labels)).ReadAll()
	if err != nil {
		return s, fmt.Errorf("reading gt.csv: %w", err)
	}
	if len(rows) != len(s.lines)+1 {
		return s, fmt.Errorf("gt.csv has %d rows for %d lines of content.txt", len(rows)-1, len(s.lines))
	}
	column := map[string]int{}
	for i, c := range rows[0] {
		column[c] = i
	}
	id, okID := column["EventId"]
	text, okText := column["EventTemplate"]
	if !okID || !okText {
		return s, errors.New("gt.csv needs the columns EventId and EventTemplate")
	}
	groups := map[string]int{}
	for _, r := range rows[1:] {
		g, ok := groups[r[id]]
		if !ok {
			g = len(s.text)
			groups[r[id]] = g
			s.text = append(s.text, r[text])
		}
		s.group = append(s.group, g)
	}
	return s, nil
}

// longestLogLine is as much of a line as is kept; the miner looks at less.
const longestLogLine = 1 << 20

// eachLine calls do with each line of r, without its newline. The slice is
// valid during the call. Of lines beyond longestLogLine it passes the
// beginning.
func eachLine(r io.Reader, do func(line []byte) error) error {
	in := bufio.NewReaderSize(r, 1<<16)
	var long []byte // the beginning of a line that does not fit into the buffer
	keep := func(part []byte) {
		long = append(long, part[:max(0, min(len(part), longestLogLine-len(long)))]...)
	}
	for {
		part, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			keep(part)
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return fmt.Errorf("reading lines: %w", err)
		}
		last := err != nil
		if last && len(part) == 0 && len(long) == 0 {
			return nil
		}
		line := bytes.TrimSuffix(bytes.TrimSuffix(part, []byte("\n")), []byte("\r"))
		if len(long) > 0 {
			keep(line)
			line = long
		}
		if err := do(line); err != nil || last {
			return err
		}
		long = long[:0]
	}
}
