package demo

import (
	"math/rand/v2"
	"time"
)

// Fault is one kind of trouble.
type Fault string

// The kinds of faults, each of a kind that people are paged for.
const (
	FaultLatency Fault = "latency"       // payment answers 300 ms later
	FaultErrors  Fault = "errors"        // cart fails a third of its requests
	FaultTraffic Fault = "traffic_drop"  // four of five shoppers stay away
	FaultCPU     Fault = "cpu_burn"      // stock burns a core
	FaultLeak    Fault = "memory_leak"   // cart keeps what it should free
	FaultSilent  Fault = "silent_outage" // stock says yes and ships nothing
)

// The kinds of faults that only logs show. They come in between the others.
const (
	FaultLogError  Fault = "log_new_error" // payment says what it never said before
	FaultLogBurst  Fault = "log_burst"     // stock says the same again and again
	FaultLogSilent Fault = "log_silence"   // cart works and says nothing
)

// service is where each fault happens.
func (f Fault) service() string {
	switch f {
	case FaultLatency, FaultLogError:
		return "payment"
	case FaultErrors, FaultLeak, FaultLogSilent:
		return "cart"
	case FaultCPU, FaultSilent, FaultLogBurst:
		return "stock"
	}
	return "front"
}

// Window is the time during which a fault is on, as offsets from the start.
type Window struct {
	Fault      Fault
	Start, End time.Duration
}

// The rhythm of the schedule. The first fault leaves enough time to learn what
// is normal and comes early enough to be seen within three minutes.
const (
	firstFault = 100 * time.Second
	faultTime  = 40 * time.Second
	restTime   = 60 * time.Second

	logFaultAfter = 20 * time.Second // of the rest
	logFaultTime  = 25 * time.Second
)

// LogSchedule returns the windows of the faults that only logs show, in the
// rests of Schedule. The first round has the order of the list.
func LogSchedule(seed uint64, until time.Duration) []Window {
	faults := []Fault{FaultLogError, FaultLogBurst, FaultLogSilent}
	random := rand.New(rand.NewPCG(seed, 3))
	var out []Window
	for at := firstFault + faultTime + logFaultAfter; ; {
		for _, f := range faults {
			if at >= until {
				return out
			}
			out = append(out, Window{f, at, at + logFaultTime})
			at += faultTime + restTime
		}
		random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	}
}

// Schedule returns the windows that begin before until. The first round has
// the order of the list above; later rounds are shuffled by seed.
func Schedule(seed uint64, until time.Duration) []Window {
	faults := []Fault{FaultLatency, FaultErrors, FaultTraffic, FaultSilent, FaultCPU, FaultLeak}
	random := rand.New(rand.NewPCG(seed, 1))
	var out []Window
	for at := firstFault; ; {
		for _, f := range faults {
			if at >= until {
				return out
			}
			out = append(out, Window{f, at, at + faultTime})
			at += faultTime + restTime
		}
		random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	}
}

// active returns which fault of schedule is on at offset, or "".
func active(schedule []Window, offset time.Duration) Fault {
	for _, w := range schedule {
		if offset >= w.Start && offset < w.End {
			return w.Fault
		}
	}
	return ""
}
