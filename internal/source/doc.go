// Package source holds what the clients of data sources share: the health
// tracker, the splitting of long ranges, the cleaning of samples, the cap on
// series, and the checking and building of PromQL.
//
// It owns rules, not connections: the clients are in its sub-packages prom and
// builtin. A source answers queries and reports its health; it never decides
// what an answer means. Invariants of every answer that leaves this package:
// samples are in order of time, at most one per time, each aligned to the step
// asked for, and none of them is a stale marker.
package source
