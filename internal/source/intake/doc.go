// Package intake takes log lines in: by Loki's push API, by OTLP over HTTP, and
// from files that grow.
//
// It owns the reading of what strangers send and the bounds on it: bodies,
// lines, labels and how many lines wait are bounded before anything is
// allocated for them. It neither keeps nor judges lines: they go to a
// source.LineSink, and a sender is told that its lines were taken only after
// the sink took them. Lines that are not passed on are counted by reason.
package intake
