// Package demo is a small shop of real HTTP services in this process: front,
// cart, payment and stock, under generated load with a day and night of ten
// minutes, with Prometheus metrics, log lines, and faults on a schedule whose
// true times are exported too.
//
// It knows nothing of the product that watches it, as a user's services know
// nothing of it. Everything listens on loopback, and everything is bounded:
// memory leaked by a fault is at most leakLimit and is given back, a fault
// ends by its schedule, and nothing outlives Run.
package demo
