// Package logs turns log lines into series: it mines the template of each
// line, counts the lines of each template over buckets of five seconds, and
// writes the counts as samples of the embedded database, once.
//
// It owns the template miner with what people decided about templates, the
// counts of the buckets that are not over yet, the memory of what was seen
// before, and the state from which all of that is restored. Detectors on logs
// are detectors like others on these series: it answers their queries, and
// says for an anomaly which lines it is about. It refuses to decide what is an
// anomaly, and it keeps no lines; a store of lines does.
//
// Invariants:
//
//   - A count is written once and never computed again from lines, so that
//     replay equals production. A line that comes after its bucket was closed
//     is mined, stored and counted as late, but changes no sample.
//   - A line is counted after the store of lines took it: what the sender was
//     told is taken has been counted or is in an open bucket.
//   - Memory is bounded by the Config, whatever the lines hold.
//   - What is new is stored as known right after the samples that tell of it, so
//     that a crash does not make it new again.
package logs
