package builtin

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"aiops/internal/model"
)

// point is one value that a collector read. Its labels include the name, the
// job and the instance.
type point struct {
	labels labels.Labels
	value  float64
}

// emitter collects what a collector reads.
type emitter struct {
	job, instance string

	builder labels.ScratchBuilder
	points  []point
	limit   int
	dropped int // points beyond the limit
}

// emit adds one value of the metric called name with labels given as names and
// values in turn. Empty values are left out.
func (e *emitter) emit(name string, value float64, namesAndValues ...string) {
	if len(e.points) >= e.limit {
		e.dropped++
		return
	}
	e.builder.Reset()
	e.builder.Add(model.MetricName, name)
	e.builder.Add(labelJob, e.job)
	e.builder.Add(labelInstance, e.instance)
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		if namesAndValues[i+1] != "" {
			e.builder.Add(namesAndValues[i], namesAndValues[i+1])
		}
	}
	e.builder.Sort()
	e.points = append(e.points, point{e.builder.Labels(), value})
}

// collector reads one part of something every round: this process, or one part
// of the host. Its read may block for long, on a dead network mount for
// example; then it is left alone until it returns, and counts as down.
type collector struct {
	name   string
	kind   string
	job    string
	origin string
	limit  int // points in one round
	read   func(*emitter) error

	busy   bool                   // owned by the round loop: read has not returned
	series map[uint64]*seriesSeen // owned by the round loop: what was written before, by hash of labels

	mu    sync.Mutex
	state model.Collector
}

// seriesSeen is a series that a collector wrote.
type seriesSeen struct {
	labels labels.Labels
	ref    storage.SeriesRef
	round  uint64
}

// reading is what one read of a collector gave.
type reading struct {
	c        *collector
	round    uint64
	points   []point
	dropped  int
	duration time.Duration
	err      error
}

func newCollector(name, kind, job, origin string, limit int, read func(*emitter) error) *collector {
	return &collector{
		name: name, kind: kind, job: job, origin: origin, limit: limit, read: read,
		series: map[uint64]*seriesSeen{},
		state:  model.Collector{Name: name, Kind: kind, State: model.CollectorUnknown},
	}
}

func (c *collector) collect(instance string, round uint64) reading {
	e := &emitter{job: c.job, instance: instance, limit: c.limit}
	begin := time.Now()
	err := c.readSafely(e)
	return reading{c: c, round: round, points: e.points, dropped: e.dropped, duration: time.Since(begin), err: err}
}

// readSafely turns a panic into an error: it runs in a goroutine of its own, and
// what the kernel shows in its files is not in our hands.
func (c *collector) readSafely(e *emitter) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("BUG: reading panicked: %v", p)
		}
	}()
	return c.read(e)
}

// write appends the points of a round at time t, and a stale marker to each
// series that was there before and is not now.
func (c *collector) write(app storage.AppenderV2, t int64, round uint64, points []point) (written int, err error) {
	for _, p := range points {
		h := p.labels.Hash()
		seen := c.series[h]
		if seen == nil || !labels.Equal(seen.labels, p.labels) {
			seen = &seriesSeen{labels: p.labels}
		}
		ref, err := app.Append(seen.ref, seen.labels, 0, t, p.value, nil, nil, storage.AOptions{})
		if err != nil {
			if soft(err) {
				continue
			}
			return written, err
		}
		seen.ref, seen.round = ref, round
		c.series[h] = seen
		written++
	}
	for h, seen := range c.series {
		if seen.round == round {
			continue
		}
		delete(c.series, h)
		if _, err := app.Append(seen.ref, seen.labels, 0, t, staleMarker, nil, nil, storage.AOptions{}); err != nil && !soft(err) {
			return written, err
		}
	}
	return written, nil
}

// errNothingToRead marks a part that this system does not have.
var errNothingToRead = errors.New("this system has nothing to read here")

// report notes how a round went, for Collectors.
func (c *collector) report(at time.Time, r reading, written int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.LastScrape, c.state.Duration, c.state.Samples = at, r.duration, written
	c.state.State, c.state.Error = model.CollectorUp, ""
	switch {
	case errors.Is(err, errNothingToRead):
		c.state.State, c.state.Error = model.CollectorDisabled, errNothingToRead.Error()
	case err != nil:
		c.state.State, c.state.Error = model.CollectorDown, shown(err)
	case r.dropped > 0:
		c.state.Error = "more values than are taken in one round; some were dropped"
	}
}

func (c *collector) status() model.Collector {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// forget makes the next round look every series up again, after a commit that
// failed.
func (c *collector) forget() {
	for _, seen := range c.series {
		seen.ref = 0
	}
}
