package pipeline

import (
	"math"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

// A model promises that one sample in ten scores 1 or more while nothing
// changes, because its scores are calibrated on its own residuals. The drift
// of a detector is how far it is from that promise: the share of its samples
// that score 1 or more is taken for blocks of an hour (at least 60 steps), and
// Page's one-sided CUSUM (1954) looks at the blocks one after the other,
//
//	sum ← max(0, sum + (share − 0.1) ÷ spread − 0.5)
//
// and says drift at a sum of 8. The spread is the usual deviation of the
// shares of the detector's own blocks, never less than that of independent
// samples, because samples of one block resemble each other. On blocks that
// scatter like a normal distribution a false report comes once in about 20,000
// blocks. A share of 0.2 with a spread of 0.05 is reported after six blocks.
// It fails where nothing is calibrated: fixed bounds are not looked at.
const (
	driftShare   = 0.1  // that scores driftScore or more
	driftScore   = 1.0  // one sample in ten
	driftSlack   = 0.5  // spreads that a block may be off
	driftLimit   = 8.0  // of the sum
	driftGain    = 3.0  // spreads that one block counts at most
	driftBlocks  = 24   // blocks that the spread is learned from before the test begins
	driftMemory  = 72.0 // blocks that the spread remembers
	driftSamples = 60   // least samples of a block
)

type drift struct {
	began    int64 // start of the block; 0: none yet
	samples  int64
	over     int64
	share    float64 // of the last block
	mean     float64
	variance float64
	blocks   int64
	sum      float64
	since    int64 // step at which the sum reached the limit; 0: it did not
}

// count takes one scored sample.
func (d *drift) count(r detect.Result) {
	if r.Learning {
		return
	}
	d.samples++
	if r.Score >= driftScore {
		d.over++
	}
}

// turn ends the block when step t lies behind it.
func (d *drift) turn(def *definition, t int64) {
	length := max(time.Hour.Milliseconds(), driftSamples*def.step)
	begin := t - mod(t, length)
	if d.began == begin {
		return
	}
	if d.began != 0 && d.samples >= driftSamples && def.detector.Model != "threshold" {
		d.block(t)
	}
	d.began, d.samples, d.over = begin, 0, 0
}

func (d *drift) block(t int64) {
	n := float64(d.samples)
	d.share = float64(d.over) / n
	least := driftShare * (1 - driftShare) / n
	spread := math.Sqrt(math.Max(d.variance, least))
	if d.blocks >= driftBlocks {
		z := float64((d.share - driftShare) / spread)
		d.sum = math.Min(math.Max(0, d.sum+math.Min(z, driftGain)-driftSlack), 2*driftLimit)
		if d.sum >= driftLimit && d.since == 0 {
			d.since = t
		}
		if d.sum == 0 {
			d.since = 0
		}
	}
	// What the test is about must not widen its own measure: a block counts
	// for the spread as three spreads at most.
	if d.blocks == 0 {
		d.mean = d.share
	}
	gain := 1 / math.Min(float64(d.blocks+1), driftMemory)
	off := d.share - d.mean
	if d.blocks >= driftBlocks {
		off = math.Max(-driftGain*spread, math.Min(off, driftGain*spread))
	}
	d.mean += float64(gain * off)
	d.variance += float64(gain * (float64(off*off) - d.variance))
	d.blocks++
}

func (d *drift) shown() model.Drift {
	return model.Drift{Share: d.share, Expected: driftShare, Sum: d.sum, Limit: driftLimit, Drifting: d.since != 0, Since: msTime(d.since), Blocks: int(d.blocks)}
}

func (w *frame) drift(d drift) {
	w.i64(d.began)
	w.i64(d.samples)
	w.i64(d.over)
	w.f64(d.share)
	w.f64(d.mean)
	w.f64(d.variance)
	w.i64(d.blocks)
	w.f64(d.sum)
	w.i64(d.since)
}

func (r *parser) drift() drift {
	return drift{began: r.i64(), samples: r.i64(), over: r.i64(), share: r.f64(), mean: r.f64(), variance: r.f64(),
		blocks: r.i64(), sum: r.f64(), since: r.i64()}
}
