// Package outward is the one way from this program to a data source that
// speaks HTTP.
//
// It owns the connection pool, credentials and TLS, time limits, repetition,
// the retry budget, the circuit breaker, the bulkhead, and what all of these
// show of themselves as metrics, spans and details. It knows no query language
// and no format: a client (prom, loki) says what to send and reads the answer.
//
// It refuses to follow redirects, to use a proxy from the environment, to
// repeat a request that is not marked Safe, and to show a host name, a path or
// a secret in an error.
//
// Invariants: a source that fails altogether gets at most one repetition for
// ten calls; nothing is sent before the time that a Retry-After named; a call
// ends within its own time limit, and nothing of it goes on afterwards.
package outward
