package model

import "time"

// TuneSpace is what a parameter search may try, by field. An empty field is
// left as it is.
type TuneSpace struct {
	Models             []string
	FalseAlarmsPerWeek []float64
	Directions         []Direction
	MinAbsolute        []float64
	MinRelative        []float64
	For                []time.Duration
	KeepFiringFor      []time.Duration
}

// TuneLimits bound a search. Zero values are the defaults of the pipeline.
type TuneLimits struct {
	Days        int           // of the past that are tried
	Time        time.Duration // for all backtests together
	Evaluations int           // backtests
}

// TuneCounts is what a definition makes of the past, beside what the
// definition in force makes of it.
type TuneCounts struct {
	False        int // alarms labelled false that the definition in force raises again
	FalseRemoved int
	True         int // alarms labelled true that the definition in force raises again
	TrueKept     int
	Unlabelled   int // alarms of the last 30 days without a label that it raises again
	Changed      int // of those, the ones that are gone
	Added        int // alarms where the definition in force raises none
	Alarms       int
	PerWeek      float64
}

// TuneTrial is a definition that was tried.
type TuneTrial struct {
	Definition Detector
	Counts     TuneCounts
	Loss       float64 // what the search makes small
}

// TuneResult is what a search found.
type TuneResult struct {
	From, To     time.Time
	Base         TuneTrial // the definition in force
	Best         TuneTrial
	Improved     bool        // Best is better than Base
	Trials       []TuneTrial // all that were tried, best first
	Evaluations  int
	Unreproduced int    // labelled alarms that the definition in force does not raise again, which count nowhere
	Stopped      string // why it ended: done, time or evaluations
	Summary      string // a sentence for people
}
