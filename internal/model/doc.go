// Package model holds the nouns that the other packages exchange: series and
// samples, detectors, anomalies with their evidence, sources and their health,
// events, tasks and model snapshots, and the kinds of errors.
//
// It owns shapes and the small rules that keep a value of such a shape valid
// on its own. It does no I/O, starts nothing, reads no clock and knows neither
// HTTP nor SQL. A type enters this package only when two packages exchange it.
package model
