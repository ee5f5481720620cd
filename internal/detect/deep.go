package detect

import (
	"fmt"
	"time"

	"aiops/internal/model"
)

const (
	deepShape  = 3.0  // weight of the pattern where a short rhythm is certain
	deepAlways = 1.0  // and per unit of autocorrelation elsewhere
	deepRest   = 0.8  // share of all else that it then takes away
	deepLeast  = 0.2  // autocorrelation at which a rhythm begins to count
	deepSure   = 0.5  // and at which it is certain
	deepUnit   = 0.15 // distance beyond the usual that counts 1
)

// newDeep makes the model "deep": "auto" with a left matrix profile over a long
// history among its components, which sees patterns that never were although
// each of their values is usual. Expected value, band, calibration and all
// other components are those of auto, whose comment says how they work.
//
// Cost per point: 10 to 30 µs. Memory: at most 256 KiB, reached after 8192
// points. It needs 64 samples before it judges and a few periods of the series
// for its patterns. It fails where auto and discord both fail.
func newDeep(c config) (Model, error) {
	m, err := newAuto(c)
	if err != nil {
		return nil, err
	}
	m.(*auto).deep = newDeepParts(c.step)
	return m, nil
}

func deepMinHistory(step time.Duration) int { return autoMinHistory(step) }

// deepParts are the components that only deep has. Their readings are those of
// the history up to the sample before.
type deepParts struct {
	discord discord
	gauge   gauge
	halfDay float64 // in samples
}

func newDeepParts(step time.Duration) *deepParts {
	return &deepParts{discord: newDiscord(), halfDay: float64(12*time.Hour) / float64(step)}
}

// sure says from 0 to 1 how certain a rhythm shorter than half a day is. Where
// it is, patterns decide and single values count less; the rhythms of day and
// week are the business of auto's profiles.
func (p *deepParts) sure() float64 {
	if p.discord.period == 0 || float64(p.discord.period) > p.halfDay {
		return 0
	}
	return min(max((p.discord.rhythm-deepLeast)/(deepSure-deepLeast), 0), 1)
}

// sum returns what the pattern counts for, and the share at which all else
// counts.
func (p *deepParts) sum() (pattern, rest float64) {
	sure := p.sure()
	rest = 1 - mul(deepRest, sure)
	c := p.discord.distance
	if !(c >= 0) || p.gauge.n < gaugeWarm {
		return 0, rest
	}
	usual := float64(p.gauge.quantile)
	s := max(c-usual, 0) / deepUnit
	if usual > 0 {
		s += 2 * min(c/usual, 1)
	}
	return mul(mul(deepShape, sure)+mul(deepAlways, p.discord.rhythm), s), rest
}

func (p *deepParts) learn(x float64) {
	p.gauge.learn(p.discord.distance)
	p.discord.learn(x)
}

func (p *deepParts) scale(f float64) { p.discord.scale(f) }

func (p *deepParts) sizeBytes() int { return int(sizeOf[deepParts]()) + p.discord.sizeBytes() }

func (p *deepParts) why() string {
	if p == nil {
		return ""
	}
	if p.discord.period == 0 {
		return "; no period found yet, patterns of " + fmt.Sprint(p.discord.length*p.discord.thin) + " samples"
	}
	return fmt.Sprintf("; patterns of a period of %d samples", p.discord.period)
}

func (p *deepParts) contributions(out []model.Contribution, part, sum, score float64) []model.Contribution {
	if !(part > 0) {
		return out
	}
	share := min(part/sum, 1)
	note := "a pattern seen before"
	if p.discord.distance > float64(p.gauge.quantile) {
		note = fmt.Sprintf("unlike any pattern of the last %d samples", int(p.discord.n)*p.discord.thin)
	}
	return append(out, model.Contribution{Name: "pattern", Score: mul(share, score), Share: share, Note: note})
}

func (p *deepParts) append(w *writer) {
	p.discord.append(w)
	p.gauge.append(w)
}

func (p *deepParts) restore(d *reader) {
	p.discord.restore(d)
	p.gauge.restore(d)
}
