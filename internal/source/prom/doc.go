// Package prom is the client of the Prometheus HTTP API, as Prometheus, Mimir,
// Thanos and VictoriaMetrics serve it.
//
// It owns the way to such a source: connections, credentials, limits, retries,
// the circuit breaker and the decoding of answers in bounded memory. It refuses
// to follow redirects, to use a proxy from the environment, to keep more of an
// answer than the limits allow, and to show a host name, a path or a secret in
// an error.
//
// Invariants: a request to a source that fails altogether is repeated for at
// most one in ten calls; nothing is sent before the time that a Retry-After
// named; every answer is clean as package source defines it.
package prom
