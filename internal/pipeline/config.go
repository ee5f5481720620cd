package pipeline

import (
	"context"
	"runtime"
	"time"

	"aiops/internal/model"
)

// Level says how hard pressed the process is. Work of low priority yields
// first.
type Level uint8

// The levels, in order. At Elevated long work (training, backtests, first
// learning from history) is limited to one evaluation at a time; at Severe it
// waits. Live evaluation goes on at every level.
const (
	PressureNone Level = iota
	PressureElevated
	PressureSevere
)

// Config says how much the engine may use. The zero value takes the defaults
// that stand at each field.
type Config struct {
	// Workers is how many evaluations run at the same time; 0 is four for each
	// CPU, because most of their time is waiting for a source.
	Workers int `yaml:"workers,omitempty" json:"workers,omitempty"`
	// SourceWorkers is how many of them may use one source; 0 is half of Workers.
	SourceWorkers int `yaml:"source_workers,omitempty" json:"source_workers,omitempty"`
	// MaxSeries is the cap on series of one detector; 0 is 100,000. Series
	// beyond it are counted, reported and not scored.
	MaxSeries int `yaml:"max_series_per_detector,omitempty" json:"max_series_per_detector,omitempty"`
	// MaxMemoryBytes is how much all model state together may take before new
	// series are refused; 0 is 4 GiB.
	MaxMemoryBytes int64 `yaml:"max_memory_bytes,omitempty" json:"max_memory_bytes,omitempty"`
	// DeepBytesPerDetector is how much the models of a detector may take beyond
	// those of "auto" because they were promoted to "deep"; 0, and anything below
	// 256 KiB, promotes nothing. What is promoted depends on it, so all nodes should
	// have the same.
	DeepBytesPerDetector int64 `yaml:"deep_bytes_per_detector,omitempty" json:"deep_bytes_per_detector,omitempty"`
	// SeriesTTL is how long a series may be silent, while its source is
	// healthy, before its model is dropped; 0 is 24 h. It is never less than
	// 100 steps of the detector.
	SeriesTTL model.Duration `yaml:"series_ttl,omitempty" json:"series_ttl,omitempty"`
	// History is how far back a new detector learns from its source; 0 is 14 days.
	History model.Duration `yaml:"history,omitempty" json:"history,omitempty"`
	// HistoryPoints bounds the history of one series in samples; 0 is 50,000.
	HistoryPoints int `yaml:"history_points,omitempty" json:"history_points,omitempty"`
	// HistorySamples bounds the history of one detector in samples over all of
	// its series; 0 is 20 million.
	HistorySamples int64 `yaml:"history_samples,omitempty" json:"history_samples,omitempty"`
	// SnapshotEvery is the least time between two snapshots of a detector;
	// 0 is 5 min. It grows with the size of the snapshot.
	SnapshotEvery model.Duration `yaml:"snapshot_every,omitempty" json:"snapshot_every,omitempty"`
	// QueryTimeout bounds one query of the live path; 0 is 30 s.
	QueryTimeout model.Duration `yaml:"query_timeout,omitempty" json:"query_timeout,omitempty"`
	// WedgedAfter is how long one evaluation may run before its place is given
	// to others and the detector counts as failed; 0 is 2 min.
	WedgedAfter model.Duration `yaml:"wedged_after,omitempty" json:"wedged_after,omitempty"`
	// DrainTimeout bounds the time for finishing evaluations and writing
	// snapshots when the engine stops; 0 is 15 s.
	DrainTimeout model.Duration `yaml:"drain_timeout,omitempty" json:"drain_timeout,omitempty"`

	// Owner says which detectors are evaluated here; nil: all of them.
	Owner Owner `yaml:"-" json:"-"`
	// Audience is told of live points; nil: nobody looks.
	Audience Audience `yaml:"-" json:"-"`
	// Reading finds the source that answers for people who look at the past
	// (Replay); nil is the one that detectors are scored from. It may answer
	// from memory, as old as it says.
	Reading SourceFunc `yaml:"-" json:"-"`

	// Pressure reports how hard pressed the process is; nil is never. It is
	// called often and must not block.
	Pressure func() Level `yaml:"-" json:"-"`
	// Retrain begins to train a detector anew as a task, which calls
	// Engine.Retrain; nil: detectors never retrain by themselves. It must not
	// wait for the task.
	Retrain func(ctx context.Context, detectorID, reason string) error `yaml:"-" json:"-"`
}

// Validate finds every fault of the configuration at once.
func (c Config) Validate() error {
	var v model.Invalid
	atLeast := func(pointer string, n, least int64) {
		if n < least {
			v.Add(pointer, "out_of_range", "%s must be at least %d, or 0 for the default", pointer[1:], least)
		}
	}
	atLeast("/workers", int64(c.Workers), 0)
	atLeast("/source_workers", int64(c.SourceWorkers), 0)
	atLeast("/max_series_per_detector", int64(c.MaxSeries), 0)
	atLeast("/max_memory_bytes", c.MaxMemoryBytes, 0)
	atLeast("/deep_bytes_per_detector", c.DeepBytesPerDetector, 0)
	atLeast("/history_points", int64(c.HistoryPoints), 0)
	atLeast("/history_samples", c.HistorySamples, 0)
	for _, d := range []struct {
		pointer string
		value   model.Duration
	}{
		{"/series_ttl", c.SeriesTTL}, {"/history", c.History}, {"/snapshot_every", c.SnapshotEvery},
		{"/query_timeout", c.QueryTimeout}, {"/wedged_after", c.WedgedAfter}, {"/drain_timeout", c.DrainTimeout},
	} {
		if d.value < 0 || d.value > 0 && d.value.Std() < time.Second {
			v.Add(d.pointer, "out_of_range", "%s must be at least 1s, or 0 for the default", d.pointer[1:])
		}
	}
	return v.Err("")
}

func (c Config) withDefaults() Config {
	def := func(p *int, n int) {
		if *p == 0 {
			*p = n
		}
	}
	defD := func(p *model.Duration, d time.Duration) {
		if *p == 0 {
			*p = model.Duration(d)
		}
	}
	def(&c.Workers, 4*runtime.GOMAXPROCS(0))
	def(&c.SourceWorkers, max(1, c.Workers/2))
	def(&c.MaxSeries, 100_000)
	def(&c.HistoryPoints, 50_000)
	if c.MaxMemoryBytes == 0 {
		c.MaxMemoryBytes = 4 << 30
	}
	if c.HistorySamples == 0 {
		c.HistorySamples = 20_000_000
	}
	defD(&c.SeriesTTL, 24*time.Hour)
	defD(&c.History, 14*24*time.Hour)
	defD(&c.SnapshotEvery, 5*time.Minute)
	defD(&c.QueryTimeout, 30*time.Second)
	defD(&c.WedgedAfter, 2*time.Minute)
	defD(&c.DrainTimeout, 15*time.Second)
	if c.Pressure == nil {
		c.Pressure = func() Level { return PressureNone }
	}
	return c
}
