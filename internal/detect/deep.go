package detect

import (
	"fmt"
	"time"

	"aiops/internal/model"
)

const (
	deepShort = 4.0   // what a distance of 1 counts where there is a short rhythm
	deepRest  = 0.005 // what all else counts there, as a share
	deepPlain = 30.0  // but what exceeds this counts in full: no rhythm explains it
	deepLeast = 0.05  // autocorrelation at which a rhythm begins to count
	deepSure  = 0.1   // and at which it is certain

	deepViewMost = 64 << 10 // bytes of a view's snapshot
)

// deepViews are the models whose surprise is a component of deep's strength, and what each
// counts for. They look at a whole stretch, as no component of auto does.
// Among those tried they alone gained; docs/adr/0003 has the others.
var deepViews = [...]struct {
	name   string
	weight float64
}{
	{"relative_entropy", 0.6},
}

// newDeep makes the model "deep": "auto" with a left matrix profile over a long
// history among its components, which sees patterns that never were although
// each of their values is usual. Its strength, which ranks samples, also counts
// how surprising other models find the last stretch (deepViews); its score
// does not, because those surprises come from the same samples and would be
// counted twice as evidence. Expected value, band, calibration and all
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
	if m.(*auto).deep, err = newDeepParts(c); err != nil {
		return nil, err
	}
	return m, nil
}

func deepMinHistory(step time.Duration) int { return autoMinHistory(step) }

// deepParts are the components that only deep has. Their readings are those of
// the history up to the sample before.
type deepParts struct {
	discord discord
	short   float64 // in samples
	config  config
	trial   *trial // of a promoted model; nil: the model is deep
	views   [len(deepViews)]Model
	gauges  [len(deepViews)]gauge
	scores  [len(deepViews)]float64 // scratch: what the views said of the last sample
	pattern float64                 // scratch: and what the pattern counted for
}

func newDeepParts(c config) (*deepParts, error) {
	p := &deepParts{discord: newDiscord(), short: float64(time.Hour) / float64(c.step), config: c}
	for i, v := range deepViews {
		view, err := New(Spec{Model: v.name, Step: c.step, TimeZone: c.location.String(), Seed: c.seed})
		if err != nil {
			return nil, fmt.Errorf("making the view %s: %w", v.name, err)
		}
		p.views[i] = view
	}
	return p, nil
}

// view returns what the views add to the strength of a value; top is what a
// record counts for.
func (p *deepParts) view(t int64, v, top float64) float64 {
	var sum float64
	for i, m := range p.views {
		if m == nil {
			continue
		}
		p.scores[i] = m.Score(t, v).Score
		limited := p.gauges[i].limited(p.scores[i], top)
		sum += mul(deepViews[i].weight, limited)
	}
	return sum
}

// sure says from 0 to 1 how certain it is that the series has a rhythm.
func (p *deepParts) sure() float64 {
	return min(max((p.discord.rhythm-deepLeast)/(deepSure-deepLeast), 0), 1)
}

// decides reports whether patterns count.
func (p *deepParts) decides() bool {
	return p.sure() > 0 && float64(p.discord.span()) <= p.short
}

// sum returns what the pattern counts for and what all else does, of which the
// sum is plain. Where subsequences are shorter than an hour, patterns decide, by
// their distance as such, and single values only when they are enormous.
// Longer rhythms, of day and week, are the business of auto's profiles: there
// patterns are followed but do not count, because they added false alarms only.
func (p *deepParts) sum(plain float64) (pattern, rest float64) {
	if !p.decides() {
		return 0, plain
	}
	sure := p.sure()
	if c := p.discord.distance; c >= 0 {
		pattern = mul(mul(deepShort, sure), c)
	}
	damped := mul(deepRest, plain) + max(0, plain-deepPlain)
	return pattern, plain + mul(sure, damped-plain)
}

// learn takes in v at t, which is x in units and was viewed last.
func (p *deepParts) learn(t int64, v, x float64) {
	p.discord.learn(x)
	for i, m := range p.views {
		if m != nil {
			p.gauges[i].learn(p.scores[i])
			m.Learn(t, v)
		}
	}
}

func (p *deepParts) scale(f float64) { p.discord.scale(f) }

func (p *deepParts) sizeBytes() int {
	size := int(sizeOf[deepParts]()) + p.discord.sizeBytes()
	for _, m := range p.views {
		if m != nil {
			size += m.SizeBytes()
		}
	}
	if p.trial != nil {
		size += int(sizeOf[trial]())
	}
	return size
}

func (p *deepParts) why() string {
	if p == nil {
		return ""
	}
	if !p.rules() {
		return fmt.Sprintf("; deep on trial for %d samples", p.discord.seen)
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
	note := fmt.Sprintf("%.2f from the nearest pattern of the last %d samples, where 1.4 is unrelated",
		p.discord.distance, int(p.discord.n)*p.discord.thin)
	return append(out, model.Contribution{Name: "pattern", Score: mul(share, score), Share: share, Note: note})
}

func (p *deepParts) append(w *writer) {
	if p.trial != nil {
		p.appendTrial(w)
		return
	}
	p.discord.append(w)
	for i, m := range p.views {
		p.gauges[i].append(w)
		w.bytes(m.AppendSnapshot(nil))
	}
}

func (p *deepParts) restore(d *reader) {
	p.discord.restore(d)
	for i, m := range p.views {
		p.gauges[i].restore(d)
		b := d.bytes(deepViewMost)
		if d.err != nil {
			return
		}
		if err := m.Restore(b); err != nil {
			d.err = err
			return
		}
	}
}
