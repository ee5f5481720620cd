package pipeline

import (
	"encoding/json"
	"fmt"
	"math"
	"unsafe"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// contextPoints is how many scored points before a peak are kept as evidence.
const contextPoints = 60

const (
	ringBytes           = int64(unsafe.Sizeof(ring{}))
	seriesOverheadBytes = int64(unsafe.Sizeof(series{})) + 8 + 20 // and its slot and its place in the index
)

// ring holds the last scored points of a series while something is going on.
type ring struct {
	points [contextPoints]model.ScoredPoint
	next   int
	n      int
	quiet  int // points since something was going on
}

func (r *ring) add(p model.ScoredPoint) {
	r.points[r.next] = p
	r.next = (r.next + 1) % contextPoints
	r.n = min(r.n+1, contextPoints)
}

// list returns the points in order of time, as a copy.
func (r *ring) list() []model.ScoredPoint {
	out := make([]model.ScoredPoint, 0, r.n)
	for i := range r.n {
		out = append(out, r.points[(r.next-r.n+i+contextPoints)%contextPoints])
	}
	return out
}

// proof is the evidence of a peak that the store does not have yet.
type proof struct {
	state         []byte // of the model before it learned the peak
	context       []model.ScoredPoint
	contributions []model.Contribution
	threshold     float64
	active        int
}

func (p *proof) bytes() int {
	return len(p.state) + len(p.context)*int(unsafe.Sizeof(model.ScoredPoint{})) + 256
}

// keepContext notes p when the series has an episode or a score halfway to the
// threshold, and stops when neither was the case for as long as the ring is.
func (c *core) keepContext(s *series, p model.ScoredPoint) {
	going := s.episode != nil || !s.learning && p.Score >= c.threshold/2
	if s.context == nil {
		if !going {
			return
		}
		s.context = &ring{}
		if s.last.T != 0 {
			s.context.add(s.last)
		}
	}
	s.context.add(p)
	s.context.quiet++
	if going {
		s.context.quiet = 0
	}
	if s.context.quiet >= contextPoints {
		s.context = nil
	}
}

// takeProof keeps what the episode's new peak p was computed from. Beyond
// maxProofBytes of evidence that waits for the store, episodes go without.
func (c *core) takeProof(s *series, p model.ScoredPoint) {
	e := s.episode
	c.dropProof(e)
	if !c.prove || c.proofBytes >= maxProofBytes {
		return
	}
	pr := &proof{threshold: c.threshold, active: c.active}
	if e.cause != causeSilent {
		pr.state = s.model.AppendSnapshot(nil)
		pr.contributions = s.model.Contributions()
	}
	if s.link.made() {
		pr.contributions = s.link.group.contributions(s)
	}
	if s.context != nil {
		pr.context = s.context.list()
	} else if s.last.T != 0 {
		pr.context = []model.ScoredPoint{s.last}
	}
	e.proof = pr
	c.proofBytes += pr.bytes()
}

func (c *core) dropProof(e *episode) {
	if e.proof != nil {
		c.proofBytes -= e.proof.bytes()
		e.proof = nil
	}
}

// evidenceVersion is the version of the encoded definition in an Evidence.
const evidenceVersion = 1

// evidenceDefinition is what Evidence.Definition holds: all of the definition
// that a score depends on, and the peak as it was scored. Floats are kept as
// their bits, because JSON has neither NaN nor infinities.
type evidenceDefinition struct {
	Version      int                `json:"version"`
	Source       string             `json:"source"`
	Query        string             `json:"query"`
	StepMS       int64              `json:"step_ms"`
	Model        string             `json:"model"`
	Parameters   json.RawMessage    `json:"parameters,omitempty"`
	Direction    model.Direction    `json:"direction"`
	MinDeviation model.MinDeviation `json:"min_deviation"`
	TimeZone     string             `json:"time_zone,omitempty"`
	Holidays     []string           `json:"holidays,omitempty"`
	ForMS        int64              `json:"for_ms,omitempty"`
	KeepMS       int64              `json:"keep_firing_for_ms,omitempty"`
	QuietMS      int64              `json:"refractory_ms,omitempty"`
	Seed         uint64             `json:"seed"`
	Silent       bool               `json:"silent,omitempty"` // the peak was a missing sample
	Joint        bool               `json:"joint,omitempty"`  // a series made of others: the contributions are their shares
	Peak         [5]uint64          `json:"peak"`             // value, expected, lower, upper, score
}

// evidence makes the evidence of e's peak, or nil when there is none to give.
func (c *core) evidence(s *series, id string) *model.Evidence {
	e := s.episode
	pr := e.proof
	if pr == nil {
		return nil
	}
	spec := c.specOf(s.key, s.hash)
	def, err := json.Marshal(evidenceDefinition{
		Version: evidenceVersion, Source: c.def.detector.Source, Query: c.def.detector.Query, StepMS: c.def.step,
		Model: spec.Model, Parameters: spec.Parameters, Direction: spec.Direction, MinDeviation: spec.MinDeviation,
		TimeZone: spec.TimeZone, Holidays: c.def.detector.Holidays, ForMS: c.def.detector.For.Milliseconds(), KeepMS: c.def.detector.KeepFiringFor.Milliseconds(),
		QuietMS: c.def.detector.Refractory.Milliseconds(), Seed: spec.Seed, Silent: e.cause == causeSilent, Joint: s.link.made(), Peak: pointBits(e.peak),
	})
	if err != nil {
		panic("BUG: encoding the definition of an evidence: " + err.Error())
	}
	return &model.Evidence{
		AnomalyID: id, Model: spec.Model, Definition: def, ModelState: pr.state,
		Threshold: pr.threshold, SeriesActive: pr.active, Peak: model.Sample{T: e.peak.T, V: e.peak.Value},
		Context: pr.context, Contributions: pr.contributions,
		Counterfactual:  counterfactual(e.peak, e.cause, c.def.detector),
		DetectorVersion: c.def.detector.Version, ModelVersion: c.modelVersion,
	}
}

func pointBits(p model.ScoredPoint) [5]uint64 {
	return [5]uint64{math.Float64bits(p.Value), math.Float64bits(p.Expected), math.Float64bits(p.Lower),
		math.Float64bits(p.Upper), math.Float64bits(p.Score)}
}

// Recompute scores the peak of an anomaly again from its stored evidence and
// says whether the result equals what was stored, bit for bit. It needs
// neither source nor store. The error tells that the evidence cannot be read.
func Recompute(ev model.Evidence) (RecomputeResult, error) {
	var d evidenceDefinition
	if err := json.Unmarshal(ev.Definition, &d); err != nil {
		return RecomputeResult{}, model.WrapError(model.KindInternal, model.SubjectAnomaly, err,
			"the stored evidence of this anomaly cannot be read")
	}
	if d.Version != evidenceVersion {
		return RecomputeResult{}, model.Errorf(model.KindConflict, model.SubjectAnomaly,
			"the evidence of this anomaly has format %d; this program reads format %d", d.Version, evidenceVersion)
	}
	stored := model.ScoredPoint{T: ev.Peak.T, Value: math.Float64frombits(d.Peak[0]), Expected: math.Float64frombits(d.Peak[1]),
		Lower: math.Float64frombits(d.Peak[2]), Upper: math.Float64frombits(d.Peak[3]), Score: math.Float64frombits(d.Peak[4]), Anomalous: true}
	if d.Silent {
		return RecomputeResult{Point: stored, Reproduced: true}, nil
	}
	holidays, err := detect.ParseHolidays(d.Holidays)
	if err != nil {
		return RecomputeResult{}, fmt.Errorf("reading the holidays of an evidence: %w", err)
	}
	m, err := detect.New(detect.Spec{Model: d.Model, Parameters: d.Parameters, Step: msDuration(d.StepMS), Direction: d.Direction,
		MinDeviation: d.MinDeviation, TimeZone: d.TimeZone, Holidays: holidays, Seed: d.Seed})
	if err != nil {
		return RecomputeResult{}, fmt.Errorf("making the model of an evidence: %w", err)
	}
	if err := m.Restore(ev.ModelState); err != nil {
		return RecomputeResult{}, model.WrapError(model.KindInternal, model.SubjectAnomaly, err,
			"the stored model state of this anomaly cannot be read")
	}
	m.SetThreshold(ev.Threshold)
	r := m.Score(ev.Peak.T, ev.Peak.V)
	g := detect.Gates(r, ev.Peak.V, ev.Threshold, d.Direction, d.MinDeviation)
	res := RecomputeResult{
		Point: model.ScoredPoint{T: ev.Peak.T, Value: ev.Peak.V, Expected: r.Expected, Lower: r.Lower, Upper: r.Upper,
			Score: r.Score, Anomalous: g == detect.GateOpen},
		Contributions: m.Contributions(), Extrapolated: r.Extrapolated,
	}
	if d.Joint {
		res.Contributions = ev.Contributions // who makes the value cannot be seen in the value
	}
	res.Counterfactual = counterfactualOf(m, ev, d)
	res.Difference = difference(stored, res.Point)
	res.Reproduced = res.Difference == ""
	return res, nil
}

// difference names the first field in which two points differ in any bit.
func difference(stored, now model.ScoredPoint) string {
	a, b := pointBits(stored), pointBits(now)
	for i, field := range [...]string{"value", "expected", "lower", "upper", "score"} {
		if a[i] != b[i] {
			return fmt.Sprintf("%s was %v and is now %v", field, math.Float64frombits(a[i]), math.Float64frombits(b[i]))
		}
	}
	if stored.Anomalous != now.Anomalous {
		return fmt.Sprintf("anomalous was %v and is now %v", stored.Anomalous, now.Anomalous)
	}
	return ""
}
