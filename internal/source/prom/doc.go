// Package prom is the client of the Prometheus HTTP API, as Prometheus, Mimir,
// Thanos and VictoriaMetrics serve it.
package prom
