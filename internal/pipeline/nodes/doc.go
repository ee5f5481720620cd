// Package nodes shares detectors out among the processes that work on one
// PostgreSQL: each detector is evaluated by one of them at a time, and another
// takes it over within seconds when that one ends.
//
// It owns this node's membership: it renews the lease of the node, takes
// detectors that nobody owns, hands over what is more than its share, and says
// for each detector whether this node may evaluate it now. It refuses to
// evaluate, to copy data and to talk to other nodes: the database is the only
// thing that they share.
//
// Invariants:
//
//   - Whether a lease has expired is decided by the database's clock alone. A
//     node judges itself by its own monotonic clock, from before it asked for
//     the renewal, and stops well before the lease can have expired.
//   - A token of a detector is used by one node, and each owner's is greater than
//     those before it. The store refuses the writes of a smaller one, so that a
//     node which was paused can do no harm whatever it believes.
//   - A detector moves only when its node is gone, leaves, or has more than its
//     share.
//
// The state machine is in docs/nodes.md.
package nodes
