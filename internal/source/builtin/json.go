package builtin

import (
	"math"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"aiops/internal/model"
)

// jsonWriter writes answers in Prometheus' JSON, which the standard encoder
// cannot: its values are numbers in strings, so that NaN can be told. It holds
// everything back until stream is called, so that an error can still be told.
type jsonWriter struct {
	w         http.ResponseWriter
	buf       []byte
	streaming bool
	err       error // of the client's connection
}

// streamBytes is how much is held before it is sent.
const streamBytes = 64 << 10

// stream says that nothing can fail any more: from now on large answers are
// sent while they are written.
func (j *jsonWriter) stream() {
	if !j.streaming {
		j.w.Header().Set("Content-Type", "application/json")
	}
	j.streaming = true
}

// more sends what was written when it is much.
func (j *jsonWriter) more() {
	if j.streaming && len(j.buf) >= streamBytes {
		j.flush()
	}
}

func (j *jsonWriter) flush() {
	if j.err == nil {
		_, j.err = j.w.Write(j.buf)
	}
	j.buf = j.buf[:0]
}

func (j *jsonWriter) raw(text string) { j.buf = append(j.buf, text...) }

const hexDigits = "0123456789abcdef"

// string writes a JSON string. Bytes that are not UTF-8 become U+FFFD, and <, >
// and & are escaped, in case someone shows the answer as HTML.
func (j *jsonWriter) string(s string) {
	j.buf = append(j.buf, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			j.buf = append(j.buf, s[from:i]...)
			switch c {
			case '"', '\\':
				j.buf = append(j.buf, '\\', c)
			case '\n':
				j.raw(`\n`)
			default:
				j.buf = append(j.buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			from = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			j.buf = append(j.buf, s[from:i]...)
			j.raw("\ufffd")
			i++
			from = i
			continue
		}
		i += size
	}
	j.buf = append(j.buf, s[from:]...)
	j.buf = append(j.buf, '"')
}

func (j *jsonWriter) strings(list []string) {
	j.raw("[")
	for i, s := range list {
		if i > 0 {
			j.raw(",")
		}
		j.string(s)
	}
	j.raw("]")
}

// list writes a member, or nothing for an empty list.
func (j *jsonWriter) list(member string, list []string) {
	if len(list) > 0 {
		j.raw(member)
		j.strings(list)
	}
}

// truncated adds Prometheus' warning for an answer that was cut.
func (j *jsonWriter) truncated(yes bool) {
	if yes {
		j.list(`,"warnings":`, []string{"results truncated due to limit"})
	}
}

func (j *jsonWriter) labels(ls labels.Labels) {
	j.raw("{")
	first := true
	ls.Range(func(l labels.Label) {
		if !first {
			j.raw(",")
		}
		first = false
		j.string(l.Name)
		j.raw(":")
		j.string(l.Value)
	})
	j.raw("}")
}

// time writes milliseconds as seconds.
func (j *jsonWriter) time(ms int64) {
	if ms < 0 {
		j.raw("-")
		ms = -ms
	}
	j.buf = strconv.AppendInt(j.buf, ms/1000, 10)
	if frac := ms % 1000; frac != 0 {
		j.buf = append(j.buf, '.', byte('0'+frac/100), byte('0'+frac/10%10), byte('0'+frac%10))
	}
}

func (j *jsonWriter) value(v float64) {
	j.raw(`"`)
	switch {
	case math.IsInf(v, 1):
		j.raw("+Inf")
	case v != 0 && (math.Abs(v) < 1e-6 || math.Abs(v) >= 1e21):
		j.buf = strconv.AppendFloat(j.buf, v, 'e', -1, 64)
	default:
		j.buf = strconv.AppendFloat(j.buf, v, 'f', -1, 64)
	}
	j.raw(`"`)
}

func (j *jsonWriter) point(t int64, v float64) {
	j.raw("[")
	j.time(t)
	j.raw(",")
	j.value(v)
	j.raw("]")
}

// result writes the result of a query. Native histograms are left out of it.
func (j *jsonWriter) result(value any) {
	switch v := value.(type) {
	case promql.Vector:
		j.raw(`{"resultType":"vector","result":[`)
		first := true
		for i := range v {
			if v[i].H != nil {
				continue
			}
			if !first {
				j.raw(",")
			}
			first = false
			j.raw(`{"metric":`)
			j.labels(v[i].Metric)
			j.raw(`,"value":`)
			j.point(v[i].T, v[i].F)
			j.raw("}")
			j.more()
		}
		j.raw("]}")
	case promql.Matrix:
		j.matrix(seriesOf(v))
	case promql.Scalar:
		j.raw(`{"resultType":"scalar","result":`)
		j.point(v.T, v.V)
		j.raw("}")
	case promql.String:
		j.raw(`{"resultType":"string","result":[`)
		j.time(v.T)
		j.raw(",")
		j.string(v.V)
		j.raw("]}")
	}
}

// seriesOf converts the raw samples that a range selector yields.
func seriesOf(m promql.Matrix) []model.SeriesData {
	all := make([]model.SeriesData, 0, len(m))
	load := newLabelCache(len(m)).loader(len(m))
	for _, s := range m {
		one := model.SeriesData{Labels: load.labels(s.Metric)}
		for _, p := range s.Floats {
			one.Samples = append(one.Samples, model.Sample{T: p.T, V: p.F})
		}
		all = append(all, one)
	}
	return all
}

func (j *jsonWriter) matrix(all []model.SeriesData) {
	j.raw(`{"resultType":"matrix","result":[`)
	first := true
	for _, s := range all {
		if len(s.Samples) == 0 {
			continue
		}
		if !first {
			j.raw(",")
		}
		first = false
		j.raw(`{"metric":{`)
		for i, l := range s.Labels {
			if i > 0 {
				j.raw(",")
			}
			j.string(l.Name)
			j.raw(":")
			j.string(l.Value)
		}
		j.raw(`},"values":[`)
		for i, p := range s.Samples {
			if i > 0 {
				j.raw(",")
			}
			j.point(p.T, p.V)
			j.more()
		}
		j.raw("]}")
	}
	j.raw("]}")
}

// targets writes collectors in the form of Prometheus' list of targets.
func (j *jsonWriter) targets(list []model.Collector) {
	j.raw(`{"activeTargets":[`)
	for i, c := range list {
		if i > 0 {
			j.raw(",")
		}
		j.raw(`{"labels":{"job":`)
		j.string(c.Name)
		j.raw(`},"scrapePool":`)
		j.string(c.Kind)
		j.raw(`,"health":`)
		health := string(c.State)
		if c.State == model.CollectorDisabled {
			health = string(model.CollectorUnknown)
		}
		j.string(health)
		j.raw(`,"lastError":`)
		j.string(c.Error)
		j.raw(`,"lastScrape":`)
		j.string(c.LastScrape.UTC().Format(time.RFC3339Nano))
		j.raw(`,"lastScrapeDuration":`)
		j.buf = strconv.AppendFloat(j.buf, c.Duration.Seconds(), 'f', -1, 64)
		j.raw("}")
	}
	j.raw(`],"droppedTargets":[]}`)
}
