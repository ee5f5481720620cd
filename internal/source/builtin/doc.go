// Package builtin is the embedded source: Prometheus' time series database,
// PromQL engine, scrape manager and remote-write receiver, used as libraries.
//
// It owns the directory of the database, what is scraped into it (this process,
// this host under node_exporter's names, configured HTTP targets), what is
// written to it from outside, and the limits on all of that. It is the only
// package that imports those libraries. It refuses new series beyond its cap
// while known ones go on, requests whose decoded size or cost is beyond a limit
// before they allocate, and a directory that another process uses.
//
// Invariants: samples of this process and the host lie on multiples of the
// interval, and all samples of one round are committed together, at most
// LateData after their time; a series that ended, or whose scraping ended with
// an earlier process, has a stale marker after its last sample.
package builtin
