package admission

import "time"

// State is how hard pressed the program is.
type State string

// The states. Elevated: the CPUs or the memory are nearly used up, so work that
// can wait gets less. Overloaded: requests are refused, or would be soon; work
// that can wait does.
const (
	Normal     State = "normal"
	Elevated   State = "elevated"
	Overloaded State = "overloaded"
)

func (s State) rank() int {
	switch s {
	case Elevated:
		return 1
	case Overloaded:
		return 2
	}
	return 0
}

// Change is one change of the load state.
type Change struct {
	From   State     `json:"from"`
	To     State     `json:"to"`
	Reason string    `json:"reason"` // for people
	Time   time.Time `json:"time"`
}

// signals are what the load state follows.
type signals struct {
	delay    time.Duration // how long work waited for a CPU, 90th percentile
	target   time.Duration // how long it may
	waited   time.Duration // how long a request waited for a place, the longest
	shedding bool          // requests were refused a moment ago
	memory   float64       // share of what may be used
}

// Thresholds of the load state.
const (
	memoryElevated   = 0.80
	memoryOverloaded = 0.92
	delayElevated    = 2  // times the target
	delayOverloaded  = 10 // times the target
	waitElevated     = 100 * time.Millisecond
)

// read says what the signals call for, and why.
func (s signals) read() (State, string) {
	switch {
	case s.memory >= memoryOverloaded:
		return Overloaded, "memory is nearly used up"
	case s.shedding:
		return Overloaded, "requests are refused"
	case s.delay > delayOverloaded*s.target:
		return Overloaded, "work waits long for a CPU"
	case s.memory >= memoryElevated:
		return Elevated, "memory is getting short"
	case s.delay > delayElevated*s.target:
		return Elevated, "work waits for a CPU"
	case s.waited > waitElevated:
		return Elevated, "requests wait for a place"
	}
	return Normal, "the load is normal"
}

// How long the signals have to call for another state.
const (
	riseAfter = time.Second
	fallAfter = 4 * time.Second // one step down
)

// machine is the state machine of the load. It goes up when every reading for
// riseAfter called for more than the present state, at once to the least of
// them, and one step down when every reading for fallAfter called for less. It
// is for one goroutine.
type machine struct {
	state State
	above time.Time // since when every reading called for more; zero: the last did not
	least State     // the least of them
	below time.Time // since when every reading called for less
}

// step takes one reading. It reports a change.
func (m *machine) step(now time.Time, wanted State, reason string) (Change, bool) {
	from := m.state
	switch r := wanted.rank(); {
	case r > m.state.rank():
		m.below = time.Time{}
		if m.above.IsZero() {
			m.above, m.least = now, wanted
		}
		if r < m.least.rank() {
			m.least = wanted
		}
		if now.Sub(m.above) < riseAfter {
			return Change{}, false
		}
		m.state, m.above = m.least, time.Time{}
	case r < m.state.rank():
		m.above = time.Time{}
		if m.below.IsZero() {
			m.below = now
		}
		if now.Sub(m.below) < fallAfter {
			return Change{}, false
		}
		m.below = time.Time{}
		if m.state = Elevated; from == Elevated {
			m.state = Normal
		}
	default:
		m.above, m.below = time.Time{}, time.Time{}
		return Change{}, false
	}
	return Change{From: from, To: m.state, Reason: reason, Time: now}, true
}
