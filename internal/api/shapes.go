package api

import (
	"math"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/model"
)

// Duration is a length of time as clients write it: a Go string such as "30s".
type Duration string

const durationPattern = `^(0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|[0-9]+(\.[0-9]+)?(d|w))$`

// Schema describes a duration; huma asks for it.
func (Duration) Schema(huma.Registry) *huma.Schema {
	limit := 32
	return &huma.Schema{Type: huma.TypeString, Pattern: durationPattern, PatternDescription: `a duration such as "30s", "5m" or "7d"`,
		MaxLength: &limit, Examples: []any{"30s"}}
}

func durationOf(d time.Duration) Duration { return Duration(model.Duration(d).String()) }

// parse adds a fault to v and returns 0 when d is out of range.
func (d Duration) parse(v *model.Invalid, pointer string) time.Duration {
	if d == "" {
		return 0
	}
	parsed, err := model.ParseDuration(string(d))
	if err != nil {
		v.Add(pointer, "duration", "%s", err.Error())
		return 0
	}
	return parsed.Std()
}

// Number is a float whose JSON form is null when it is not finite.
type Number model.Float

// Schema describes a number that may be null; huma asks for it.
func (Number) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Format: "double", Nullable: true}
}

// MarshalJSON writes the number, or null.
func (n Number) MarshalJSON() ([]byte, error) { return model.Float(n).MarshalJSON() }

// UnmarshalJSON reads a number; null becomes NaN.
func (n *Number) UnmarshalJSON(b []byte) error { return (*model.Float)(n).UnmarshalJSON(b) }

// SeriesRef names one labelled time series.
type SeriesRef struct {
	Labels map[string]string `json:"labels" doc:"The series' labels" example:"{\"__name__\":\"node_load1\",\"instance\":\"a\"}"`
	Key    string            `json:"key" doc:"The same in one text, as the series parameter takes it" example:"{__name__=\"node_load1\", instance=\"a\"}"`
}

func seriesOf(ls model.Labels) SeriesRef { return SeriesRef{Labels: ls.Map(), Key: ls.Key()} }

// timeOf is t in UTC, nil when it is zero.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func millis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// unknown is a number that is written as null.
func unknown() Number { return Number(math.NaN()) }

// Page is the part of a list's input that every list shares.
type Page struct {
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"500" doc:"Items in one answer"`
	Cursor string `query:"cursor" maxLength:"512" doc:"next_cursor of the answer before; empty for the first page"`
}

// Tagged is an answer with a version to compare with.
type Tagged struct {
	ETag string `header:"ETag" doc:"Version of the answer, for If-Match and If-None-Match"`
}

// Point is a sample and what a model said of it.
type Point struct {
	T         time.Time `json:"t"`
	Value     Number    `json:"value"`
	Expected  Number    `json:"expected" doc:"null while unknown"`
	Lower     Number    `json:"lower"`
	Upper     Number    `json:"upper"`
	Score     Number    `json:"score" doc:"Surprise: -log10 of the calibrated tail probability; 4 is one in ten thousand samples"`
	Anomalous bool      `json:"anomalous" doc:"Beyond the threshold and all gates"`
}

// PointOf returns a scored point as clients see it.
func PointOf(p model.ScoredPoint) Point {
	return Point{T: millis(p.T), Value: Number(p.Value), Expected: Number(p.Expected), Lower: Number(p.Lower), Upper: Number(p.Upper),
		Score: Number(p.Score), Anomalous: p.Anomalous}
}

func pointsOf(ps []model.ScoredPoint) []Point {
	out := make([]Point, len(ps))
	for i, p := range ps {
		out[i] = PointOf(p)
	}
	return out
}
