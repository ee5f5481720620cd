// Package detect says how surprising a sample of a series is.
//
// It owns the algorithms, the calibration that turns a deviation into a tail
// probability, the false-alarm budget, and the gates that a deviation passes
// before it counts. A model is a value: it is scored and taught sample by
// sample, and its whole state goes into a snapshot and back.
//
// It refuses to do anything else. There is no clock, context, logger,
// goroutine, randomness or I/O here; times and seeds are arguments. The one
// exception is New, which may read a time zone's rules. Missing samples,
// episodes and late data are the pipeline's business.
//
// # Invariants
//
//   - Causal: a score at t depends on the samples before t and on the value at
//     t, on nothing later.
//   - Score changes nothing that a snapshot shows. Scoring a sample twice gives
//     the same result twice.
//   - A snapshot is exact: a restored model gives the same bits as one that was
//     never stopped.
//   - Results do not depend on the machine. Go may fuse x*y+z into one rounding
//     on some processors and may use different code for math.Exp and math.Log,
//     so everything here multiplies with mul, which rounds, and takes logarithms
//     and powers with ln and exp of this package. TestNoFusedArithmetic looks at
//     the compiled code.
//   - Every model is bounded: its size does not grow after its window is full,
//     and a step allocates nothing once it is.
//   - A model is not safe for concurrent use; different models are independent.
package detect
