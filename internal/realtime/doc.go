// Package realtime tells clients, over WebSocket and server-sent events, what
// happens: it reads the log of events in order and fans it out by topic.
//
// It owns connections, subscriptions, bounded queues and the resuming of
// streams. It refuses to store anything, to wait for a client, and to answer
// pages of other sites.
//
// Invariants: a client gets each event of its topics once and in the order of
// their numbers, from the cursor it named on; replayed and live events meet at
// one number without gap or repeat. A client that cannot keep up is cut off
// and told where to resume; it never delays another one, nor the log. Memory
// per client is bounded by its queue.
//
// docs/live.md has the protocol.
package realtime
