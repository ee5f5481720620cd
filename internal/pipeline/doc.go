// Package pipeline turns detectors into anomalies: on each detector's schedule
// it fetches the samples that became due, scores every series with the models
// of package detect, tracks episodes and hands their changes to the store.
//
// It owns the live state of all models, the watermark up to which a detector
// has been evaluated, the rules of an episode, the threshold that follows from
// the false-alarm budget, and the snapshots from which all of this is restored
// after a restart. It refuses to decide on data it cannot trust: while a source
// is down, stale or answers with an error, nothing opens, nothing resolves and
// nothing is learned; the gap is filled when the source is back.
//
// Invariants:
//
//   - One code path scores live samples, history, replays and backtests. State
//     after step t depends on the samples up to t alone, never on how many
//     steps were evaluated together.
//   - Each step of a detector is scored once. Restoring a snapshot and
//     replaying the samples after it gives bit for bit the state of a process
//     that never stopped.
//   - The watermark of a stored snapshot never passes an anomaly that the store
//     has not acknowledged.
//   - A slow source, a failing query or a panicking model harms its own
//     detector only.
package pipeline
