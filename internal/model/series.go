package model

import (
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
)

// MetricName is the label that carries a series' metric name.
const MetricName = "__name__"

// Label is one name and value of a series.
type Label struct {
	Name  string
	Value string
}

// Labels identify a series. They are sorted by name, without duplicates and
// without empty values; LabelsFromMap and SortLabels make them so. A Labels
// value is shared and must not be changed after it was made.
type Labels []Label

// LabelsFromMap returns the labels of m, sorted. Empty values are left out,
// because a label without a value is the same as no label.
func LabelsFromMap(m map[string]string) Labels {
	ls := make(Labels, 0, len(m))
	for n, v := range m {
		if v != "" {
			ls = append(ls, Label{n, v})
		}
	}
	sort.Slice(ls, func(i, j int) bool { return ls[i].Name < ls[j].Name })
	return ls
}

// Map returns the labels as a new map.
func (ls Labels) Map() map[string]string {
	m := make(map[string]string, len(ls))
	for _, l := range ls {
		m[l.Name] = l.Value
	}
	return m
}

// Value returns the value of the label called name, or "".
func (ls Labels) Value(name string) string {
	i := sort.Search(len(ls), func(i int) bool { return ls[i].Name >= name })
	if i < len(ls) && ls[i].Name == name {
		return ls[i].Value
	}
	return ""
}

// Key returns the series' identity in PromQL notation, for example
// node_load1{instance="a"}. Two label sets have the same key exactly when they
// are equal, and ParseSeriesKey reads it back.
func (ls Labels) Key() string {
	return string(ls.AppendKey(nil))
}

// AppendKey appends Key to dst, without other allocation.
func (ls Labels) AppendKey(dst []byte) []byte {
	dst = append(dst, '{')
	for i, l := range ls {
		if i > 0 {
			dst = append(dst, ',', ' ')
		}
		dst = append(dst, l.Name...)
		dst = append(dst, '=')
		dst = strconv.AppendQuote(dst, l.Value)
	}
	return append(dst, '}')
}

// String returns Key.
func (ls Labels) String() string { return ls.Key() }

// MarshalJSON writes the labels as an object.
func (ls Labels) MarshalJSON() ([]byte, error) { return json.Marshal(ls.Map()) }

// UnmarshalJSON reads the labels from an object of strings.
func (ls *Labels) UnmarshalJSON(b []byte) error {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("decoding labels: %w", err)
	}
	*ls = LabelsFromMap(m)
	return nil
}

// ParseSeriesKey reads what Labels.Key wrote.
func ParseSeriesKey(key string) (Labels, error) {
	rest, ok := strings.CutPrefix(key, "{")
	if !ok {
		return nil, fmt.Errorf("series key %q does not start with {", key)
	}
	var ls Labels
	for rest != "}" {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil, fmt.Errorf("series key %q: a label without a value", key)
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil {
			return nil, fmt.Errorf("series key %q: the value of %q is not quoted", key, name)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("series key %q: %w", key, err)
		}
		ls = append(ls, Label{strings.Clone(name), value})
		rest = after[len(quoted):]
		if r, ok := strings.CutPrefix(rest, ", "); ok {
			rest = r
		} else if rest != "}" {
			return nil, fmt.Errorf("series key %q is cut off", key)
		}
	}
	if !sort.SliceIsSorted(ls, func(i, j int) bool { return ls[i].Name < ls[j].Name }) {
		return nil, fmt.Errorf("series key %q: labels out of order", key)
	}
	return ls, nil
}

// Sample is a value at a time.
type Sample struct {
	T int64   // milliseconds since the Unix epoch
	V float64 // never a stale marker; NaN and infinities are possible
}

// SeriesData is one series of an answer: labels and samples in order of time,
// at most one per time. The receiver owns it.
type SeriesData struct {
	Labels  Labels
	Samples []Sample
}

// Float is a float64 whose JSON form is null when it is not finite, because
// JSON knows neither NaN nor infinities.
type Float float64

// MarshalJSON writes the number, or null when it is NaN or infinite.
func (f Float) MarshalJSON() ([]byte, error) {
	v := float64(f)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(v)
}

// UnmarshalJSON reads a number; null becomes NaN.
func (f *Float) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*f = Float(math.NaN())
		return nil
	}
	var v float64
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*f = Float(v)
	return nil
}
