package pipeline

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// rules are the parts of a definition that episodes follow, in steps. Counting
// observed samples instead of clock time is what makes silence hold an episode:
// a step without a sample moves no counter.
type rules struct {
	forSamples   int32 // anomalous samples that make an episode fire; at least 1
	keepSamples  int32 // calm samples that resolve it; at least 1
	quietSamples int32 // samples after resolving in which none opens a new one
	dampSamples  int32 // samples after resolving in which a new one counts as a flap
	holdSamples  int32 // anomalous samples of an open episode that are not learned
	updateEvery  int64 // least milliseconds between two updates that only tell of a higher peak
}

// gap is how many samples that are not anomalous end an alarm and let another one
// begin.
func (r rules) gap() int { return int(max(r.keepSamples, r.quietSamples)) }

// clearShare is the hysteresis: a sample is calm when its score is below this
// share of the threshold, so that a series hovering at the threshold neither
// opens and resolves with every sample nor stays open for ever.
const clearShare = 0.75

// peakGain is how much higher a score must be than the one last told for the
// difference to be worth an update: ten times rarer.
const peakGain = 1.0

// The first samples of an episode are not learned, so that a model, a young one
// above all, does not take a fault for usual before it has fired. What lasts
// longer is a new level: it is learned, and the alarm ends by itself.
const (
	leastHold = 12
	mostHold  = 240
)

func rulesOf(d model.Detector) rules {
	step := d.Step
	hold := func(t time.Duration) int32 { return int32((t+step-1)/step) + 1 }
	r := rules{forSamples: hold(d.For), keepSamples: hold(d.KeepFiringFor)}
	r.quietSamples = int32((d.Refractory + step - 1) / step)
	r.dampSamples = max(10, 2*r.keepSamples)
	r.holdSamples = min(max(leastHold, 2*r.forSamples), mostHold)
	r.updateEvery = max(time.Minute.Milliseconds(), 4*step.Milliseconds())
	return r
}

// verdict is what a sample means to an episode.
type verdict uint8

const (
	verdictCalm      verdict = iota // below the lower level, or held back by a gate: counts towards resolving
	verdictBetween                  // neither anomalous nor calm: moves nothing
	verdictAnomalous                // beyond the threshold and every gate
)

// judge turns a score and the gate that it met into a verdict. A gate that
// makes the value unremarkable (direction, least deviation, a model that is
// still learning) is as good as a low score.
func judge(score, threshold float64, g detect.Gate) verdict {
	switch {
	case g == detect.GateOpen:
		return verdictAnomalous
	case g == detect.GateScore && score >= clearShare*threshold:
		return verdictBetween
	default:
		return verdictCalm
	}
}

// phase is where an episode stands.
type phase uint8

const (
	phasePending  phase = iota // anomalous, but not for long enough
	phaseFiring                // an alarm
	phaseResolved              // over; remembered while a new one would count as a flap
	phaseMuted                 // ended by hand while still anomalous; waits for calm, tells nothing
	phaseOver                  // to be forgotten
)

// transition is what a sample changed. The pipeline turns it into an
// AnomalyChange; everything but none is worth a write.
type transition uint8

const (
	transitionNone      transition = iota
	transitionPending              // a new episode, not yet an alarm
	transitionFired                // a new alarm
	transitionUpdated              // a clearly higher peak or severity
	transitionResolved             // an alarm ended
	transitionCancelled            // a pending episode ended without firing
)

// String returns the transition's name as metrics show it.
func (t transition) String() string {
	return [...]string{"none", "pending", "fired", "updated", "resolved", "cancelled"}[t]
}

// episode is one run of anomalous samples on one series. It is a value without
// clock: every change follows from the samples observed.
type episode struct {
	phase     phase
	severity  severity
	startedAt int64 // milliseconds of the first anomalous sample
	firedAt   int64 // 0 while pending
	endedAt   int64 // 0 while open
	over      int32 // anomalous samples since it began
	calm      int32 // calm samples since the last anomalous one
	flaps     int32 // alarms on this series that ended shortly before, one after the other
	told      toldState
	peak      model.ScoredPoint
	cause     cause  // what peak was
	proof     *proof // evidence of peak that the store does not have yet
}

// cause says in a word why a sample was anomalous: a detect.Reason, or silence.
type cause uint8

const causeSilent cause = 255

// toldState is what the store last heard of an episode.
type toldState struct {
	at       int64
	score    float64
	severity severity
}

// severity orders model.Severity.
type severity uint8

const (
	severityInfo severity = iota
	severityWarning
	severityCritical
)

func (s severity) model() model.Severity {
	return [...]model.Severity{model.SeverityInfo, model.SeverityWarning, model.SeverityCritical}[s]
}

// severityOf grades a score by how much rarer it is than what the budget
// tolerates: three times is a warning, a hundred times critical.
func severityOf(score, threshold float64) severity {
	switch excess := score - threshold; {
	case excess >= 2:
		return severityCritical
	case excess >= 0.5:
		return severityWarning
	default:
		return severityInfo
	}
}

// open reports whether the episode is an anomaly that has not ended.
func (e *episode) open() bool { return e.phase == phasePending || e.phase == phaseFiring }

// begin makes the episode that an anomalous sample opens. before is the one
// that the series had and that has not been forgotten yet, or nil.
func begin(r rules, before *episode, p model.ScoredPoint, threshold float64) (*episode, transition) {
	e := &episode{phase: phasePending, startedAt: p.T, over: 1, peak: p, severity: severityOf(p.Score, threshold)}
	if before != nil {
		e.flaps = before.flaps + 1
	}
	if r.forSamples <= 1 {
		e.fire(p.T)
		return e, transitionFired
	}
	e.tell(p.T)
	return e, transitionPending
}

// higher reports whether p would become the peak of e. The caller asks before
// observe, because evidence of a peak has to be taken before the sample is
// learned.
func (e *episode) higher(p model.ScoredPoint, v verdict) bool {
	return v == verdictAnomalous && e.open() && p.Score > e.peak.Score
}

// observe moves the episode by one scored sample and says what changed. After
// phaseOver the episode must be forgotten.
func (e *episode) observe(r rules, p model.ScoredPoint, v verdict, threshold float64) transition {
	if e.higher(p, v) {
		e.peak = p
		e.severity = max(e.severity, severityOf(p.Score, threshold))
	}
	switch e.phase {
	case phasePending:
		return e.observePending(r, p, v)
	case phaseFiring:
		return e.observeFiring(r, p, v)
	case phaseResolved:
		e.observeResolved(r)
	case phaseMuted:
		if e.countCalm(v) >= r.keepSamples {
			e.phase = phaseOver
		}
	}
	return transitionNone
}

func (e *episode) observePending(r rules, p model.ScoredPoint, v verdict) transition {
	switch v {
	case verdictAnomalous:
		e.over++
		if e.over >= r.forSamples {
			e.fire(p.T)
			return transitionFired
		}
	case verdictCalm:
		e.phase, e.endedAt = phaseOver, p.T
		return transitionCancelled
	}
	return transitionNone
}

func (e *episode) observeFiring(r rules, p model.ScoredPoint, v verdict) transition {
	if v == verdictAnomalous {
		e.over++
	}
	if e.countCalm(v) >= e.keep(r) {
		e.phase, e.endedAt, e.calm = phaseResolved, p.T, 0
		e.tell(p.T)
		return transitionResolved
	}
	if e.material(r, p.T) {
		e.tell(p.T)
		return transitionUpdated
	}
	return transitionNone
}

// observeResolved waits for the damping window to pass.
func (e *episode) observeResolved(r rules) {
	if e.calm++; e.calm >= max(r.dampSamples, r.quietSamples) {
		e.phase = phaseOver
	}
}

// quiet reports whether the refractory time after the end of e, which may be
// nil, still runs: an anomalous sample then opens no new episode.
func (e *episode) quiet(r rules) bool {
	return e != nil && e.phase == phaseResolved && e.calm < r.quietSamples
}

func (e *episode) countCalm(v verdict) int32 {
	switch v {
	case verdictAnomalous:
		e.calm = 0
	case verdictCalm:
		e.calm++
	}
	return e.calm
}

// keep is how many calm samples resolve the episode. Each flap before it
// doubles that, up to the damping window, so that a flapping series becomes one
// long episode instead of many messages. What was resolved stays resolved.
func (e *episode) keep(r rules) int32 {
	return min(r.keepSamples<<min(e.flaps, 8), max(r.keepSamples, r.dampSamples))
}

// material reports whether the episode differs so much from what was told
// that people should hear of it.
func (e *episode) material(r rules, t int64) bool {
	if e.severity > e.told.severity {
		return true
	}
	return e.peak.Score >= e.told.score+peakGain && t-e.told.at >= r.updateEvery
}

func (e *episode) fire(t int64) {
	e.phase, e.firedAt, e.calm = phaseFiring, t, 0
	e.tell(t)
}

func (e *episode) tell(t int64) {
	e.told = toldState{at: t, score: e.peak.Score, severity: e.severity}
}

// end closes an open episode for a reason other than calm samples, such as a
// vanished series. It reports whether there was something to end.
func (e *episode) end(t int64) transition {
	was := e.phase
	if e.open() {
		e.endedAt = t
	}
	e.phase = phaseOver
	switch was {
	case phasePending:
		return transitionCancelled
	case phaseFiring:
		return transitionResolved
	}
	return transitionNone
}

// mute is what a person's resolving does: the rest of the deviation is told no
// more.
func (e *episode) mute() {
	e.phase, e.calm, e.proof = phaseMuted, 0, nil
}

// anomalyID names the episode of a series that started at startedAt
// (milliseconds). It depends on nothing else, so that replaying a gap after a
// crash names the same episode the same.
func anomalyID(detectorID, seriesKey string, startedAt int64) string {
	h := sha256.New()
	h.Write([]byte(detectorID))
	h.Write([]byte{0})
	h.Write([]byte(seriesKey))
	h.Write([]byte{0})
	h.Write(strconv.AppendInt(nil, startedAt, 10))
	return "an_" + idEncoding.EncodeToString(h.Sum(nil))[:20]
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// holdsLearning reports whether an anomalous sample of this episode, which may
// be nil, is to be kept from the model.
func (e *episode) holdsLearning(r rules) bool {
	return e != nil && e.open() && e.over <= r.holdSamples
}
