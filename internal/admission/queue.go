package admission

import "time"

// Class is how much a request matters under load.
type Class uint8

// The classes, the most important first. Probe and Control take no place among
// the requests in flight; neither does Stream, which lasts.
const (
	Probe Class = iota
	Control
	Stream
	Ingest
	UI
	Read
	Batch
	classes
)

// String returns the name of the class, as metrics show it.
func (c Class) String() string {
	return [...]string{"probe", "control", "stream", "ingest", "ui", "read", "batch"}[c]
}

// How many requests of a class may wait. A queue is calm until one comes that
// finds no room in it, one has waited for all its patience, or more come than
// are let in for a while; from then on it is flooded, and so short that whoever
// is let in is served soon and all others are refused at once. It is calm again
// when it has refused nobody for a while.
const (
	calmQueue  = 64                     // always
	calmDrain  = 500 * time.Millisecond // or as many as are served in this time,
	mostQueued = 2048                   // up to this many
	floodQueue = 2                      // always
	floodDrain = 3 * time.Millisecond   // or as many as are served in this time
	calmAfter  = 500 * time.Millisecond

	patience = 2 * time.Second // how long a request may wait for a place

	// What comes at once is a burst and is served, however late. When the queue
	// grows for this long, in each pulse, and by more than calmQueue, those who
	// were refused included, it is none.
	burst = 20 * time.Millisecond
)

// queue is the requests of one class that wait, the oldest first.
type queue struct {
	items     []*ticket
	head      int       // of items
	flooded   bool      // since somebody was refused
	refusedAt time.Time // when that was last
	turned    int       // refused since the last pulse
	last      int       // that waited at the last pulse
	grown     int       // by how many, and how many were refused, since growing
	growing   time.Time // the first of the pulses at each of which more had come than were let in; zero: at the last one they had not
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) push(t *ticket) { q.items = append(q.items, t) }

func (q *queue) oldest() *ticket { return q.items[q.head] }

func (q *queue) pop() *ticket {
	t := q.items[q.head]
	q.items[q.head] = nil
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	} else if q.head >= mostQueued { // never empty for long: move what waits to the front
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	return t
}

// remove takes t out, wherever it stands.
func (q *queue) remove(t *ticket) {
	for i := q.head; i < len(q.items); i++ {
		if q.items[i] == t {
			copy(q.items[q.head+1:i+1], q.items[q.head:i])
			q.items[q.head] = t
			q.pop()
			return
		}
	}
}

// calmed reports whether the queue takes a burst at now.
func (q *queue) calmed(now time.Time) bool {
	if q.flooded && now.Sub(q.refusedAt) > calmAfter {
		q.flooded = false
	}
	return !q.flooded
}

// refused notes that somebody was turned away at now.
func (q *queue) refused(now time.Time) {
	q.flooded, q.refusedAt = true, now
	q.turned++
}

// overdue reports whether the oldest has waited for too long.
func (q *queue) overdue(now time.Time) bool {
	return q.len() > 0 && now.Sub(q.oldest().since) >= patience
}

// flood reports, once each pulse, whether more come than are let in, and not
// only at once.
func (q *queue) flood(now time.Time) bool {
	more := q.len() + q.turned - q.last
	if more <= 0 || q.len() == 0 {
		q.growing, q.grown = time.Time{}, 0
		return false
	}
	if q.growing.IsZero() {
		q.growing = now
	}
	q.grown += more
	return q.grown > calmQueue && now.Sub(q.growing) >= burst
}

// pulsed ends a pulse.
func (q *queue) pulsed() { q.last, q.turned = q.len(), 0 }

// room is how many may wait when one is served each interval.
func (q *queue) room(now time.Time, interval time.Duration) int {
	if !q.calmed(now) {
		return floodRoom(interval)
	}
	return roomFor(calmQueue, calmDrain, interval)
}

func floodRoom(interval time.Duration) int { return roomFor(floodQueue, floodDrain, interval) }

func roomFor(least int, drain, interval time.Duration) int {
	return min(max(least, int(drain/max(interval, time.Microsecond))), mostQueued)
}
