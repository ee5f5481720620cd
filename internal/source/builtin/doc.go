// Package builtin is the embedded source: Prometheus' time series database,
// PromQL engine, scrape manager and remote-write receiver, used as libraries.
package builtin
