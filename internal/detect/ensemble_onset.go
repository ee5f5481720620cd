package detect

import "time"

// The constants of Onsets; times are in samples where no unit is given.
const (
	onsetRefractory = 100    // an alarm holds back weaker ones for so long
	onsetEscalation = 1.05   // times the strength of the alarm before, which breaks through
	onsetHabit      = 0.1    // of the strength that each recent alarm takes from the next
	onsetForget     = 30_000 // samples in which habit falls to a third
	onsetFirst      = 240    // samples before the first onset
	onsetAway       = 4      // usual distances that an onset is away at least

	onsetHold  = 30 * time.Minute // what is strong is held for about so long
	onsetLeast = 10               // but for at least so many samples
	onsetMost  = 30               // and at most so many

	awayLeast = 5 // the same for distances
	awayMost  = 15
)

// Onsets ranks the samples of one series for a reader of alarms: what begins an
// episode ranks above Level, everything else below it, in the order of how far
// it is from what is usual. It is the stage between scores and alarms for
// programs that see samples one by one and do not track episodes; the pipeline
// does not use it.
//
// An onset has a strength of Level and, where the model gives a distance, one of
// 4 usual distances; the first 240 samples begin none, because records are
// still common then. Refractory: after an onset, samples begin no other for 100
// samples, unless they are 1.05 times as strong. Habit: each episode makes the
// series' next ones weigh 10 % less, fading over 30,000 samples, so that a series
// which alarms often has to show more.
//
// Below Level a sample ranks by its distance from what is usual, or by its
// strength where the model gives none. Of that it is the decaying maximum over
// half an hour (5 to 15 samples, 10 to 30 for the strength), so that the end of
// an episode ranks above quiet times. The distance does not get used to a
// deviation that lasts; strength, which compares with the latest past, does.
//
// Cost: a few multiplications; it is causal and not safe for concurrent use.
type Onsets struct {
	Level float64 // strength at which an episode can begin

	hold, holdAway float64 // share of strength and distance that the next sample keeps

	n     int     // samples, at most onsetFirst
	held  float64 // strength of the last onset
	age   int     // samples since
	habit float64
	peak  float64 // decaying maximum of strength
	away  float64 // and of distance
}

// NewOnsets returns an Onsets for a series with that step.
func NewOnsets(level float64, step time.Duration) Onsets {
	n := float64(onsetHold) / float64(max(step, MinStep))
	return Onsets{Level: level, hold: 1 - 1/min(max(n, onsetLeast), onsetMost),
		holdAway: 1 - 1/min(max(n, awayLeast), awayMost)}
}

// Next takes the strength of the next sample and its distance, 0 if there is
// none, and returns its rank, 0 or more.
func (o *Onsets) Next(strength, distance float64) float64 {
	if !(strength > 0) {
		strength = 0
	}
	strength, distance = min(strength, largestReading), min(distance, largestReading)
	if o.age < onsetRefractory {
		o.age++
	}
	o.habit -= o.habit / onsetForget
	o.peak = max(strength, mul(o.peak, o.hold))
	below := o.peak
	if distance > 0 {
		o.away = max(distance, mul(o.away, o.holdAway))
		below = o.away
	}
	below = mul(o.Level, below/(below+o.Level))
	tired := strength / (1 + o.habit)
	young := o.n < onsetFirst
	if young {
		o.n++
	}
	if young || tired < o.Level || distance > 0 && distance < onsetAway {
		return below
	}
	over := o.held == 0 || o.age >= onsetRefractory
	if !over && tired >= o.held {
		o.age = 0 // the episode goes on
	}
	if !over && tired < mul(onsetEscalation, o.held) {
		return below
	}
	if over {
		o.habit += onsetHabit
	}
	o.held, o.age = tired, 0
	return tired
}
