package detect

import "time"

// DeepBytes is the most that Promote adds to the size of a model.
const DeepBytes = 256 << 10

const (
	trialReady  = 1024 // samples with patterns that their calibrator has learned before they come into force
	trialRhythm = 0.5  // autocorrelation of a rhythm that is steady
	trialRate   = 1e-3 // least weight of a distance in the usual one
	trialClip   = 4    // usual distances that one counts for at most there

	// A trial lasts five times an hour, so that the longest rhythm that counts can
	// be seen, within these bounds in samples.
	leastTrial = 1024
	mostTrial  = 8192
)

// TrialAgain is after how many lengths of a trial a series may be tried again.
const TrialAgain = 16

// TrialSamples is how many samples a promoted series has to show a rhythm.
func TrialSamples(step time.Duration) int64 {
	return min(max(5*int64(time.Hour/max(step, 1)), leastTrial), mostTrial)
}

// trial is what a promoted model has beside the parts of deep.
type trial struct {
	cal     calibrator // of the distances from the nearest pattern, in usual ones
	usual   float64    // their mean
	inForce bool       // patterns count
	won     bool       // scratch: the last score is that of the pattern
}

// Depth says how far a model was promoted.
type Depth struct {
	Promoted bool
	Samples  int64 // since it was
	Steady   bool  // the series has a steady rhythm below an hour
	InForce  bool  // and its patterns are calibrated, so that they count
}

// Promote gives the model "auto" what "deep" has for series with a rhythm below an
// hour, the left matrix profile, and keeps what was learned. It scores like auto
// until the patterns have found such a rhythm, with an autocorrelation of .5, and 1024
// samples have calibrated them, and whenever the rhythm is lost. Then the score is
// that of the rarer of the two, the sum of auto and the pattern, both taken twice as likely as
// they are because either may be it (Bonferroni): what auto sees is
// seen after promotion too, at 0.3 less. Promote reports false and does nothing for other
// models and for one that was promoted before. step is that of the Spec.
//
// Cost: up to DeepBytes of memory and 10 to 50 µs for each sample.
func Promote(m Model, step time.Duration) bool {
	a, ok := m.(*auto)
	if !ok || a.deep != nil {
		return false
	}
	a.deep = &deepParts{discord: newDiscord(), short: float64(time.Hour) / float64(step), trial: &trial{cal: newTrialCalibrator(a.cal.memory)}}
	return true
}

// Demote takes away what Promote gave. It reports false and does nothing for a
// model that was not promoted.
func Demote(m Model) bool {
	a, ok := m.(*auto)
	if !ok || a.deep == nil || a.deep.trial == nil {
		return false
	}
	a.deep, a.isRead, a.hasLast = nil, false, false
	if a.parts.n >= autoLeast {
		a.aim()
	}
	return true
}

// Promotable reports whether Promote would do anything for models of that name.
func Promotable(name string) bool { return name == "auto" }

// DepthOf says how far m was promoted. A model that is "deep" from the start
// was not.
func DepthOf(m Model) Depth {
	a, ok := m.(*auto)
	if !ok || a.deep == nil || a.deep.trial == nil {
		return Depth{}
	}
	return Depth{Promoted: true, Samples: int64(a.deep.discord.seen), Steady: a.deep.steady(), InForce: a.deep.trial.inForce}
}

func newTrialCalibrator(memory uint32) calibrator {
	return calibrator{memory: memory, refit: firstFit, ensemble: true}
}

// rules reports whether sums are those of the model deep.
func (p *deepParts) rules() bool { return p != nil && p.trial == nil }

// joins reports whether the patterns of a promoted model count.
func (p *deepParts) joins() bool { return p != nil && p.trial != nil && p.trial.inForce }

// join returns the probability, as its logarithm, of the rarer of what auto says
// and what the pattern does.
func (p *deepParts) join(side int, lnP float64, beyond bool) (float64, bool) {
	pattern, far := p.trial.cal.lnExceed(side, p.away())
	p.trial.won = pattern < lnP
	if p.trial.won {
		lnP, beyond = pattern, far
	}
	return min(lnP+ln2Hi+ln2Lo, 0), beyond
}

// away is the distance from the nearest pattern in usual distances, 0 while
// there is none.
func (p *deepParts) away() float64 {
	if d := p.discord.distance; d > 0 && p.trial.usual > 0 {
		return min(d/p.trial.usual, largestReading)
	}
	return 0
}

// calibrate learns the distance of the latest pattern of a promoted model.
func (p *deepParts) calibrate(side int) {
	if p == nil || p.trial == nil || !p.steady() || !(p.discord.distance >= 0) {
		return
	}
	t, d := p.trial, p.discord.distance
	if t.usual == 0 {
		t.usual = d
	}
	t.cal.learn(side, p.away())
	t.usual += mul(max(trialRate, 1/float64(t.cal.learned+1)), min(d, mul(trialClip, t.usual))-t.usual)
}

// steady reports whether the series has a rhythm below an hour that explains half
// of its variance. deep itself asks for less; who chose it knows that patterns
// are what matters, which must show here.
func (p *deepParts) steady() bool {
	return p.decides() && p.discord.period > 0 && p.discord.rhythm >= trialRhythm
}

// settle puts the patterns of a promoted model in force or out of it, after a
// sample was learned, and reports whether that changed.
func (p *deepParts) settle() bool {
	if p.trial == nil {
		return false
	}
	now := p.steady() && (p.trial.inForce || p.trial.cal.learned >= trialReady)
	changed := now != p.trial.inForce
	p.trial.inForce = now
	return changed
}

func (p *deepParts) appendTrial(w *writer) {
	w.f64(p.short)
	w.bool(p.trial.inForce)
	w.f64(p.trial.usual)
	p.trial.cal.append(w)
	p.discord.append(w)
}

// restoreTrial reads what appendTrial wrote. memory is that of the calibrator.
func restoreTrial(d *reader, memory uint32) *deepParts {
	p := &deepParts{discord: newDiscord(), trial: &trial{cal: newTrialCalibrator(memory)}}
	p.short = d.finite()
	d.check(p.short >= float64(time.Hour)/float64(MaxStep) && p.short <= float64(time.Hour)/float64(MinStep))
	p.trial.inForce = d.bool()
	p.trial.usual = d.finite()
	d.check(p.trial.usual >= 0)
	p.trial.cal.read(d)
	p.discord.restore(d)
	return p
}
