package logs

import (
	"time"

	"aiops/internal/model"
)

// Config says how lines are counted. The zero value means the defaults.
type Config struct {
	// Lateness is how long after its end a bucket takes lines, 0s to 5m; 5 s
	// by default. Detectors on logs are that much later.
	Lateness model.Duration `yaml:"lateness"`
	// KeepLabels are the labels of streams by which lines are counted; at most
	// 16. Streams that differ in other labels are counted together.
	KeepLabels []string `yaml:"keep_labels"`
	// Learning is how long the templates of a stream are not new but unknown,
	// 10s to 30d; 10 min by default.
	Learning model.Duration `yaml:"learning"`
	// MaxStreams is the most streams that are counted apart, 1 to 10,000; 500
	// by default. Further ones are counted together as overflow="true".
	MaxStreams int `yaml:"max_streams"`
	// MaxSeries is the most series of single templates, 100 to 200,000; 10,000
	// by default. Lines of further ones count as the template "other".
	MaxSeries int `yaml:"max_series"`
	// TemplateIdle is how long a template without lines counts as 0 before its
	// series ends, 1m to 30d; 1 h by default.
	TemplateIdle model.Duration `yaml:"template_idle"`
	// StreamIdle is the same for a stream, 1m to 90d; 24 h by default.
	StreamIdle model.Duration `yaml:"stream_idle"`
	// SaveEvery is how often the state is stored while nothing new is seen,
	// 5s to 1h; 1 min by default.
	SaveEvery model.Duration `yaml:"save_every"`
}

// Fixed bounds.
const (
	mostKeepLabels   = 16
	mostValueBytes   = 256     // of a label's value in a series
	mostKnown        = 4096    // templates that one stream is known to have
	mostKnownAll     = 1 << 16 // that all streams are known to have
	mostBirths       = 256     // new templates that one stream remembers
	mostRules        = 100     // regular expressions of people
	mostRuleBytes    = 4 << 10 // of a line that a regular expression looks at
	mostExamples     = 3       // lines kept of one template
	mostExampleBytes = 512     // of one of them
	mostWaiting      = 120     // closed buckets of a feed that wait to be written
	mostGap          = 720     // buckets without lines that are written as zeros after a pause
	mostFeeds        = 64      // sources, and queries that are followed
	takers           = 8       // calls of Take at a time
	minedBytes       = 8 << 10 // of a message that the miner is given
	sparkSlots       = 30      // points of a sparkline
	sparkStep        = 2 * time.Minute
	spareStream      = 10 * time.Minute // idle for so long, a stream makes room for another
)

const bucketNS = int64(model.LogBucket)

func (c Config) withDefaults() Config {
	if c.Lateness == 0 {
		c.Lateness = model.Duration(5 * time.Second)
	}
	if c.KeepLabels == nil {
		c.KeepLabels = []string{"app", "container", "filename", "job", "namespace", "service", "service_name", "unit"}
	}
	if c.Learning == 0 {
		c.Learning = model.Duration(10 * time.Minute)
	}
	if c.MaxStreams == 0 {
		c.MaxStreams = 500
	}
	if c.MaxSeries == 0 {
		c.MaxSeries = 10_000
	}
	if c.TemplateIdle == 0 {
		c.TemplateIdle = model.Duration(time.Hour)
	}
	if c.StreamIdle == 0 {
		c.StreamIdle = model.Duration(24 * time.Hour)
	}
	if c.SaveEvery == 0 {
		c.SaveEvery = model.Duration(time.Minute)
	}
	return c
}

// Validate returns a model.Error that names every value out of its range.
func (c Config) Validate() error {
	c = c.withDefaults()
	var bad model.Invalid
	length := func(pointer string, d model.Duration, low, high time.Duration) {
		if d.Std() < low || d.Std() > high {
			bad.Add(pointer, "out_of_range", "%s is between %s and %s, not %s", pointer[1:], model.Duration(low), model.Duration(high), d)
		}
	}
	number := func(pointer string, v, low, high int) {
		if v < low || v > high {
			bad.Add(pointer, "out_of_range", "%s is between %d and %d, not %d", pointer[1:], low, high, v)
		}
	}
	length("/lateness", c.Lateness, 0, 5*time.Minute)
	length("/learning", c.Learning, 10*time.Second, 30*24*time.Hour)
	length("/template_idle", c.TemplateIdle, time.Minute, 30*24*time.Hour)
	length("/stream_idle", c.StreamIdle, time.Minute, 90*24*time.Hour)
	length("/save_every", c.SaveEvery, 5*time.Second, time.Hour)
	number("/max_streams", c.MaxStreams, 1, 10_000)
	number("/max_series", c.MaxSeries, 100, 200_000)
	if len(c.KeepLabels) > mostKeepLabels {
		bad.Add("/keep_labels", "too_many", "%d labels; at most %d are allowed", len(c.KeepLabels), mostKeepLabels)
	}
	series := map[string]string{}
	for _, name := range c.KeepLabels {
		if name == "" || len(name) > 128 {
			bad.Add("/keep_labels", "invalid_name", "a label's name has 1 to 128 bytes")
			continue
		}
		if other, twice := series[SeriesLabel(name)]; twice {
			bad.Add("/keep_labels", "ambiguous", "the labels %q and %q have the same name %q in the series", other, name, SeriesLabel(name))
		}
		series[SeriesLabel(name)] = name
	}
	return bad.Err("")
}

// buckets returns how many buckets a length of time is, at least one.
func buckets(d time.Duration) int64 { return max(1, int64(d/model.LogBucket)) }

// bucketOf returns the number of the bucket that a time in nanoseconds is in.
func bucketOf(t int64) int64 {
	b := t / bucketNS
	if t%bucketNS < 0 {
		b--
	}
	return b
}

// sampleTime returns when the sample of a bucket is: at its end, in
// milliseconds.
func sampleTime(bucket int64) int64 { return (bucket + 1) * (bucketNS / 1e6) }
