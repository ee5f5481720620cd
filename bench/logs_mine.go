package bench

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"aiops/internal/logmine"
)

// MineSummary is what Mine did.
type MineSummary struct {
	Lines     int
	Templates int
	Evicted   int
}

// Mine reads one message a line and writes a row for each as CSV:
// LineId,EventId,EventTemplate, where EventId is the id given when the line
// arrived and EventTemplate is the text of that id's template at the end, so
// nothing is written before the input ends. Empty lines have rows too. It
// keeps eight bytes a line.
func Mine(in io.Reader, out io.Writer) (MineSummary, error) {
	m, err := logmine.New(logmine.Config{})
	if err != nil {
		return MineSummary{}, fmt.Errorf("making the miner: %w", err)
	}
	var ids []logmine.ID
	first := map[logmine.ID]string{} // texts as they were at first, for templates that get evicted
	err = eachLine(in, func(line []byte) error {
		created := m.Stats().Created
		id := m.Add(line)
		if m.Stats().Created != created {
			if t, ok := m.Template(id); ok {
				first[id] = t.Text
			}
		}
		ids = append(ids, id)
		return nil
	})
	if err != nil {
		return MineSummary{}, err
	}
	texts := map[logmine.ID]string{}
	w := bufio.NewWriter(out)
	c := csv.NewWriter(w)
	if err := c.Write([]string{"LineId", "EventId", "EventTemplate"}); err != nil {
		return MineSummary{}, fmt.Errorf("writing rows: %w", err)
	}
	for i, id := range ids {
		text, ok := texts[id]
		if !ok {
			text = first[id]
			if t, ok := m.Template(id); ok {
				text = t.Text
			}
			texts[id] = text
		}
		if err := c.Write([]string{strconv.Itoa(i + 1), id.String(), text}); err != nil {
			return MineSummary{}, fmt.Errorf("writing rows: %w", err)
		}
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return MineSummary{}, fmt.Errorf("writing rows: %w", err)
	}
	if err := w.Flush(); err != nil {
		return MineSummary{}, fmt.Errorf("writing rows: %w", err)
	}
	return MineSummary{Lines: len(ids), Templates: m.Len(), Evicted: int(m.Stats().Evicted)}, nil
}
