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
	onsetVoters     = 7
	onsetSpread     = 0.04 // share by which their levels differ from Level at most
	onsetShare      = 0.8  // of the voters that make an onset

	onsetDay   = uint64(24 * time.Hour / time.Millisecond) // that a gap between samples counts for at most
	onsetYoung = 5                                         // days after which an onset counts for half

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
// Whether a sample is an onset is put to seven voters, which differ in their level
// only, from 4 % below Level to 4 % above: where one level decides, the alarms
// of months hang on whether a single early one was just above it. A voter
// asks for a strength of its level and, where the model gives a distance, for one of
// 4 usual distances; the first 240 samples begin none, because records are
// still common then. Refractory: after an onset, samples begin no other for 100
// samples, unless they are 1.05 times as strong. Habit: each episode makes the
// series' next ones weigh 10 % less, fading over 30,000 samples, so that a series
// which alarms often has to show more. A sample is an onset when the votes of the last
// 100 samples, in levels, come to 0.8 of the voters (which six bring together); another
// follows within 100 samples if their sum has grown by 1.05.
//
// An onset ranks by that sum times d/(d+5) on day d of the series. Nothing is as it
// was on any of n days with probability 1/(n+1) if days are alike, so that on the
// first days what is new says little. The age decides only how onsets
// rank among each other: what counts as one, and the habit that it leaves, are as later. A
// gap between samples is a day at most.
//
// Below Level a sample ranks by its distance from what is usual, or by its
// strength where the model gives none. Of that it is the decaying maximum over
// half an hour (5 to 15 samples, 10 to 30 for the strength), so that the end of
// an episode ranks above quiet times. The distance does not get used to a
// deviation that lasts; strength, which compares with the latest past, does.
//
// Cost: a few dozen multiplications; it is causal and not safe for concurrent use.
type Onsets struct {
	Level float64 // strength at which an episode can begin for half of the voters

	hold, holdAway float64 // share of strength and distance that the next sample keeps

	n      int    // samples, at most onsetFirst
	begun  bool   // there was a sample
	last   int64  // time of the newest sample, in milliseconds
	age    uint64 // of the series, likewise
	voters [onsetVoters]voter
	held   float64 // sum of the votes at the last onset, in voters
	since  int     // samples since that
	peak   float64 // decaying maximum of strength
	away   float64 // and of distance
}

// voter is one opinion on when an episode begins. The zero value has seen nothing.
type voter struct {
	held  float64 // strength of its last onset, 0: there was none
	age   int     // samples since, or since a later one as strong; at most onsetRefractory
	voted int     // samples since the last onset, at most onsetRefractory
	habit float64
}

// NewOnsets returns an Onsets for a series with that step.
func NewOnsets(level float64, step time.Duration) Onsets {
	n := float64(onsetHold) / float64(max(step, MinStep))
	return Onsets{Level: level, hold: 1 - 1/min(max(n, onsetLeast), onsetMost),
		holdAway: 1 - 1/min(max(n, awayLeast), awayMost)}
}

// Next takes the time of the next sample in milliseconds, its strength and its
// distance, 0 if there is none, and returns its rank, 0 or more.
func (o *Onsets) Next(t int64, strength, distance float64) float64 {
	o.grow(t)
	if !(strength > 0) {
		strength = 0
	}
	strength, distance = min(strength, largestReading), min(distance, largestReading)
	o.peak = max(strength, mul(o.peak, o.hold))
	below := o.peak
	if distance > 0 {
		o.away = max(distance, mul(o.away, o.holdAway))
		below = o.away
	}
	below = mul(o.Level, below/(below+o.Level))
	if o.n < onsetFirst {
		o.n++
		return below
	}
	if sum := o.vote(strength, !(distance > 0) || distance >= onsetAway); sum > 0 {
		return mul(o.Level, 1+mul(sum/onsetShare, o.weight()))
	}
	return below
}

// grow makes the series as old as a sample at t; one that is not later changes nothing.
func (o *Onsets) grow(t int64) {
	switch {
	case !o.begun:
		o.begun, o.last = true, t
	case t > o.last:
		o.age += min(uint64(t)-uint64(o.last), onsetDay) // right where the signed difference overflows
		o.last = t
	}
}

// weight is what an onset counts for at the present age, from 0 to 1.
func (o *Onsets) weight() float64 {
	days := float64(o.age) / float64(onsetDay)
	return days / (days + onsetYoung)
}

// vote puts a sample to the voters and returns the sum of the votes, in voters, if
// it is an onset, else 0.
func (o *Onsets) vote(strength float64, far bool) float64 {
	if o.since < onsetRefractory {
		o.since++
	}
	begins, sum := false, 0.0
	for i := range o.voters {
		level := mul(o.Level, 1+mul(onsetSpread, float64(2*i)/(onsetVoters-1)-1))
		v := &o.voters[i]
		begins = v.next(strength, level, far) || begins
		if v.voted < onsetRefractory {
			sum += v.held / level
		}
	}
	sum /= onsetVoters
	fresh := o.held == 0 || o.since >= onsetRefractory || sum >= mul(onsetEscalation, o.held)
	if !begins || !fresh || sum < onsetShare {
		return 0
	}
	o.held, o.since = sum, 0
	return sum
}

// next takes the next sample and reports whether it begins an episode for this voter.
func (v *voter) next(strength, level float64, far bool) bool {
	v.age, v.voted = min(v.age+1, onsetRefractory), min(v.voted+1, onsetRefractory)
	v.habit -= v.habit / onsetForget
	tired := strength / (1 + v.habit)
	if !far || tired < level {
		return false
	}
	over := v.held == 0 || v.age >= onsetRefractory
	if !over && tired >= v.held {
		v.age = 0 // the episode goes on
	}
	if !over && tired < mul(onsetEscalation, v.held) {
		return false
	}
	if over {
		v.habit += onsetHabit
	}
	v.held, v.age, v.voted = tired, 0, 0
	return true
}
