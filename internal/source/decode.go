package source

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"aiops/internal/model"
)

// Answer is what the query endpoints say.
type Answer struct {
	OK        bool // status is success
	ErrorType string
	ErrorText string
	Partial   string // why the answer is incomplete; "" when it is complete
	Series    []model.SeriesData
	Count     int // series in the answer, also those beyond the limit
	Did       Cleaned
}

// Limits bound what decoding an answer may cost.
type Limits struct {
	Series int   // kept; further ones are only counted
	Bytes  int64 // read, after decompression
}

const (
	slabSamples   = 4096
	slabLabels    = 1024
	internedTexts = 1 << 16
	longestIntern = 128 // bytes; longer texts are rarely seen twice
	keptWarnings  = 5
)

// ErrTooManyBytes marks an answer beyond Limits.Bytes.
var ErrTooManyBytes = errors.New("answer too large")

// ErrTooManySeries marks an answer beyond Limits.Series, when the rest of it
// could not be counted either.
var ErrTooManySeries = errors.New("too many series")

// cappedReader fails after a number of bytes.
type cappedReader struct {
	r    io.Reader
	left int64
	read int64
}

// Capped returns a reader that fails with ErrTooManyBytes after n bytes of r.
func Capped(r io.Reader, n int64) io.Reader { return &cappedReader{r: r, left: n} }

// Read implements io.Reader.
func (c *cappedReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		// Exactly at the limit the stream may well be over.
		if n, err := c.r.Read(p[:1]); n == 0 {
			return 0, err
		}
		return 0, ErrTooManyBytes
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.read += int64(n)
	return n, err
}

// decoder builds an answer from JSON as it arrives. Memory is bounded by the
// samples that are kept: those of times in span, of at most Limits.Series
// series; labels' texts are shared between series.
type decoder struct {
	in   *Scanner
	span Span
	lim  Limits
	ans  *Answer

	texts   map[string]string
	samples []model.Sample // slab, handed out in pieces of exact capacity
	labels  []model.Label  // likewise
	points  []model.Sample // of the series being read
	pairs   []model.Label  // likewise
}

// Decode reads one answer. The answer is returned even with an error, holding
// what was understood so far.
func Decode(r io.Reader, span Span, lim Limits) (*Answer, int64, error) {
	body := &cappedReader{r: r, left: lim.Bytes}
	d := &decoder{in: NewScanner(body), span: span, lim: lim, ans: &Answer{}, texts: map[string]string{}}
	err := d.document()
	if err == nil {
		d.ans.Series, d.ans.Did = d.finishSeries()
	} else {
		d.ans.Series = nil
	}
	if err != nil && d.ans.Count > lim.Series {
		err = fmt.Errorf("%w: %w", ErrTooManySeries, err)
	}
	return d.ans, body.read, err
}

func (d *decoder) finishSeries() ([]model.SeriesData, Cleaned) {
	did := d.ans.Did
	if d.ans.Count > d.lim.Series {
		return nil, did
	}
	series, more := CleanAnswer(d.ans.Series, d.span)
	did.Add(more)
	return series, did
}

func (d *decoder) document() error {
	status := ""
	var warnings []string
	err := d.in.Object(func(name []byte) (err error) {
		switch string(name) {
		case "status":
			status, err = d.string()
		case "errorType":
			d.ans.ErrorType, err = d.string()
		case "error":
			d.ans.ErrorText, err = d.string()
		case "isPartial":
			var partial bool
			if partial, err = d.in.Boolean(); partial {
				warnings = append(warnings, "the source calls its answer partial")
			}
		case "warnings":
			warnings, err = d.warnings(warnings)
		case "data":
			err = d.data()
		default:
			err = d.in.Skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := d.in.Finish(); err != nil {
		return err
	}
	if status != "success" && status != "error" {
		return SyntaxError("a status of %q", status)
	}
	d.ans.OK = status == "success"
	d.ans.Partial = strings.Join(warnings, "; ")
	return nil
}

func (d *decoder) string() (string, error) {
	t, err := d.in.Text()
	return string(t), err
}

func (d *decoder) warnings(list []string) ([]string, error) {
	if null, err := d.in.IsNull(); null || err != nil {
		return list, err
	}
	err := d.in.Array(func() error {
		w, err := d.string()
		if err == nil && len(list) < keptWarnings {
			list = append(list, w)
		}
		return err
	})
	return list, err
}

// data reads the member of that name. The type of the result shows in its
// form, wherever resultType stands: a list of objects is a vector or a matrix,
// a list of a number and a string is a scalar or a string.
func (d *decoder) data() error {
	if null, err := d.in.IsNull(); null || err != nil {
		return err
	}
	resultType := ""
	scalar := false
	err := d.in.Object(func(name []byte) (err error) {
		switch string(name) {
		case "resultType":
			resultType, err = d.string()
		case "result":
			scalar, err = d.result()
		default:
			err = d.in.Skip()
		}
		return err
	})
	if err == nil && scalar && resultType == "string" {
		return SyntaxError("a string for a result")
	}
	return err
}

func (d *decoder) result() (scalar bool, err error) {
	if null, err := d.in.IsNull(); null || err != nil {
		return false, err
	}
	if err := d.in.Expect('['); err != nil {
		return false, err
	}
	c, err := d.in.Peek()
	if err != nil {
		return false, err
	}
	if c != '{' && c != ']' {
		d.points = d.points[:0]
		if err := d.restOfPoint(); err != nil {
			return true, err
		}
		d.ans.Count = 1
		d.keep(nil)
		return true, nil
	}
	for first := true; ; first = false {
		more, err := d.in.More(']', first)
		if err != nil || !more {
			return false, err
		}
		if err := d.series(); err != nil {
			return false, err
		}
	}
}

// series reads an element of a vector or a matrix.
func (d *decoder) series() error {
	d.ans.Count++
	if d.ans.Count > d.lim.Series {
		// Past the limit nothing is kept; the rest is read only to name how many.
		d.ans.Series, d.samples, d.labels, d.texts = nil, nil, nil, nil
		return d.in.Skip()
	}
	d.points = d.points[:0]
	d.pairs = d.pairs[:0]
	err := d.in.Object(func(name []byte) error {
		switch string(name) {
		case "metric":
			return d.metric()
		case "value":
			return d.point()
		case "values":
			return d.in.Array(d.point)
		case "histogram":
			d.ans.Did.Histograms++
		case "histograms":
			return d.in.Array(func() error { d.ans.Did.Histograms++; return d.in.Skip() })
		}
		return d.in.Skip()
	})
	if err != nil {
		return err
	}
	d.keep(d.takeLabels())
	return nil
}

// keep ends the series being read.
func (d *decoder) keep(labels model.Labels) {
	var samples []model.Sample
	if len(d.points) >= slabSamples/16 {
		samples = slices.Clone(d.points)
	} else {
		// Many short series are cheaper in one piece of memory.
		if cap(d.samples)-len(d.samples) < len(d.points) {
			d.samples = make([]model.Sample, 0, slabSamples)
		}
		n := len(d.samples)
		d.samples = append(d.samples, d.points...)
		samples = d.samples[n:len(d.samples):len(d.samples)]
	}
	if len(samples) > 0 {
		d.ans.Series = append(d.ans.Series, model.SeriesData{Labels: labels, Samples: samples})
	}
}

func (d *decoder) metric() error {
	return d.in.Object(func(name []byte) error {
		n := d.intern(name)
		value, err := d.in.Text()
		if err != nil {
			return err
		}
		if len(value) > 0 {
			d.pairs = append(d.pairs, model.Label{Name: n, Value: d.intern(value)})
		}
		return nil
	})
}

func (d *decoder) intern(b []byte) string {
	if len(b) > longestIntern {
		return string(b)
	}
	if t, ok := d.texts[string(b)]; ok {
		return t
	}
	t := string(b)
	if len(d.texts) < internedTexts {
		d.texts[t] = t
	}
	return t
}

// takeLabels moves the labels of the series being read into the slab, sorted
// and without duplicates, of which the last wins.
func (d *decoder) takeLabels() model.Labels {
	byName := func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(d.pairs, byName) {
		slices.SortStableFunc(d.pairs, byName)
	}
	kept := d.pairs[:0]
	for _, p := range d.pairs {
		if n := len(kept); n > 0 && kept[n-1].Name == p.Name {
			kept[n-1] = p
			continue
		}
		kept = append(kept, p)
	}
	if cap(d.labels)-len(d.labels) < len(kept) {
		d.labels = make([]model.Label, 0, max(slabLabels, len(kept)))
	}
	n := len(d.labels)
	d.labels = append(d.labels, kept...)
	return model.Labels(d.labels[n:len(d.labels):len(d.labels)])
}

// point reads [time, "value"].
func (d *decoder) point() error {
	if err := d.in.Expect('['); err != nil {
		return err
	}
	return d.restOfPoint()
}

func (d *decoder) restOfPoint() error {
	text, err := d.in.Number()
	if err != nil {
		return err
	}
	t, ok := parseMillis(text)
	if !ok {
		return SyntaxError("a time beyond all calendars")
	}
	if err := d.in.Expect(','); err != nil {
		return err
	}
	if text, err = d.in.Text(); err != nil {
		return err
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return SyntaxError("a value that is not a number")
	}
	if err := d.in.Expect(']'); err != nil {
		return err
	}
	if !d.span.Holds(t) {
		d.ans.Did.Misaligned++
		return nil
	}
	d.points = append(d.points, model.Sample{T: t, V: v})
	if int64(len(d.points)) >= 4*d.span.Points()+slabSamples {
		// Far more samples than times: most of them are duplicates.
		var did Cleaned
		d.points, did = Clean(d.points, d.span)
		d.ans.Did.Add(did)
	}
	return nil
}

// parseMillis reads a time in seconds, rounded to a millisecond.
func parseMillis(b []byte) (int64, bool) {
	// Nearly all times are plain digits with up to three decimals.
	var whole, frac int64
	digits, decimals, dot := 0, 0, false
	for _, c := range b {
		switch {
		case c == '.' && !dot:
			dot = true
		case c < '0' || c > '9' || digits > 14 || decimals >= 3:
			return parseMillisSlow(b)
		case dot:
			frac = frac*10 + int64(c-'0')
			decimals++
		default:
			whole = whole*10 + int64(c-'0')
			digits++
		}
	}
	for ; decimals < 3; decimals++ {
		frac *= 10
	}
	return whole*1000 + frac, true
}

func parseMillisSlow(b []byte) (int64, bool) {
	f, err := strconv.ParseFloat(string(b), 64)
	ms := math.Round(f * 1000)
	if err != nil || math.Abs(ms) > 1<<53 {
		return 0, false
	}
	return int64(ms), true
}
