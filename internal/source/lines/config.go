package lines

import (
	"time"

	"aiops/internal/model"
)

// Config bounds the store. The zero value of every field but Dir stands for
// its default.
type Config struct {
	Dir       string         `yaml:"-"`         // of the data; required
	Retention model.Duration `yaml:"retention"` // how long lines are kept; 24h
	MaxBytes  int64          `yaml:"max_bytes"` // on disk; 268435456
	Room      func() error   `yaml:"-"`         // asked before each write, which its error refuses; nil: there always is room
}

const (
	defaultRetention = 24 * time.Hour
	defaultMaxBytes  = 256 << 20
	leastRetention   = time.Minute
	leastBytes       = 16 << 20

	syncEvery   = time.Second
	flushAfter  = 15 * time.Minute // lines stay in memory no longer
	headMemory  = 16 << 20         // estimate; a head beyond it becomes a segment
	headStreams = 20_000           // likewise
	lineMemory  = 256              // what an entry costs beside its text
	blockText   = 256 << 10        // bytes of text after which a block is full
	blockSpan   = time.Hour        // what a block covers at most
	cacheMemory = 16 << 20         // of the indexes of segments
	scanBudget  = 256 << 20        // bytes of text that one search reads
	searches    = 4                // at the same time; more wait
	answerBytes = 16 << 20         // text of one answer
)

func (c Config) withDefaults() Config {
	if c.Retention == 0 {
		c.Retention = model.Duration(defaultRetention)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	return c
}

// Validate reports everything that is wrong with c. It opens nothing.
func (c Config) Validate() error {
	var v model.Invalid
	c = c.withDefaults()
	if c.Retention.Std() < leastRetention {
		v.Add("/retention", "out_of_range", "retention is %s; at least %s is needed", c.Retention, leastRetention)
	}
	if c.MaxBytes < leastBytes {
		v.Add("/max_bytes", "out_of_range", "max_bytes is %d; at least %d are needed", c.MaxBytes, int64(leastBytes))
	}
	return v.Err(model.SubjectSource)
}
