package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Announcer sends short texts to every node that shares the database, this one
// included, and hears them. What is lost stays lost.
type Announcer interface {
	Announce(ctx context.Context, texts []string) error
	Announcements() <-chan string
}

// Stream is the live stream of this node.
type Stream interface {
	// Followed returns the keys of the series that clients follow, by detector,
	// at most limit of them.
	Followed(limit int) map[string][]string
	// Publish sends a point to those who follow a topic. It must not block.
	Publish(topic string, payload []byte) error
}

// Bounds of a relay.
const (
	relayEvery   = 500 * time.Millisecond // between two rounds: what is newly followed is asked for, and points are sent
	wishEvery    = 5 * time.Second        // all that is followed is asked for again
	wishLasts    = 3 * wishEvery          // after which nobody is thought to follow any more
	relayWithin  = 2 * time.Second        // for one announcement
	mostWishes   = 1000                   // series that a node asks the others for
	mostWished   = 10_000                 // series that a node is asked for
	mostWaiting  = 2000                   // points that wait to be sent; a newer one of a series replaces an older
	mostSent     = 500                    // points in one round; the others wait
	mostTopic    = 512                    // bytes, as in the live stream
	mostPayload  = 1000                   // bytes of a point
	textMost     = 7500                   // bytes of an announcement: PostgreSQL takes less than 8,000
	textEnvelope = 200                    // bytes of what is around the list in it
)

// message is what relays announce to each other.
type message struct {
	From   string  `json:"from"`             // the instance
	Wishes []wish  `json:"wishes,omitempty"` // series that its clients follow and that it does not evaluate
	Points []point `json:"points,omitempty"`
}

type wish struct {
	Detector string `json:"detector"`
	Series   string `json:"series"`
}

func (w wish) topic() string { return "series/" + w.Detector + "/" + w.Series }

type point struct {
	wish
	Data json.RawMessage `json:"data"`
}

// RelayOptions are what a Relay is made of.
type RelayOptions struct {
	Instance  string // names this life of this node
	Announcer Announcer
	Stream    Stream
	// Owns says whether this node evaluates a detector, and whether there is one.
	Owns       func(detectorID string) (owns, known bool)
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: nothing is measured
}

// Relay brings live points of a chart to clients of nodes that do not evaluate
// its detector. A node announces which series its clients follow; the node that
// evaluates them announces their newest points. Nothing is stored: what is lost,
// the next point makes good. Its methods are safe for concurrent use and do
// not block.
type Relay struct {
	o     RelayOptions
	log   *slog.Logger
	moved *prometheus.CounterVec

	mu      sync.Mutex
	wished  map[string]map[string]time.Time // until when, by detector and key
	count   int                             // keys in wished
	waiting map[wish]json.RawMessage        // points to be sent
}

// NewRelay makes a relay, which does nothing before Run. It panics when the
// registerer holds the metrics of another one.
func NewRelay(o RelayOptions) *Relay {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Relay{o: o, log: o.Logger.With("component", "nodes"), wished: map[string]map[string]time.Time{}, waiting: map[wish]json.RawMessage{},
		moved: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_pipeline_relayed_points_total",
			Help: "Live points for clients of other nodes that were sent, received, or dropped because there were too many."}, []string{"move"})}
	for _, move := range []string{"sent", "received", "dropped"} {
		r.moved.WithLabelValues(move)
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(r.moved)
	}
	return r
}

// Watched returns the keys of the series of a detector that clients of other
// nodes follow, nil for none.
func (r *Relay) Watched(detectorID string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wished[detectorID]) == 0 {
		return nil
	}
	now := time.Now()
	var out []string
	for key, until := range r.wished[detectorID] {
		if now.Before(until) {
			out = append(out, key)
		}
	}
	return out
}

// Point takes the newest point of a series, which replaces one that was not
// sent yet. It is ignored when no other node's client follows the series.
func (r *Relay) Point(detectorID, series string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if until, ok := r.wished[detectorID][series]; !ok || !time.Now().Before(until) {
		return
	}
	w := wish{detectorID, series}
	if _, replaces := r.waiting[w]; len(data) > mostPayload || !replaces && len(r.waiting) >= mostWaiting {
		r.moved.WithLabelValues("dropped").Inc()
		return
	}
	r.waiting[w] = data
}

// Run announces and listens until ctx ends.
func (r *Relay) Run(ctx context.Context) error {
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case text := <-r.o.Announcer.Announcements():
				r.hear(text)
			}
		}
	})
	defer hearing.Wait()
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	told := map[wish]bool{}
	var toldAt time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		wishes := r.wishes()
		fresh, all := wishes, time.Since(toldAt) >= wishEvery
		if !all {
			fresh = slices.DeleteFunc(slices.Clone(wishes), func(w wish) bool { return told[w] })
		}
		points := r.take()
		if err := r.announce(ctx, fresh, points); err != nil {
			if ctx.Err() == nil {
				r.log.Debug("live points for other nodes are lost", "points", len(points), "err", err)
			}
			continue
		}
		if all {
			toldAt = time.Now()
		}
		clear(told)
		for _, w := range wishes {
			told[w] = true
		}
		r.moved.WithLabelValues("sent").Add(float64(len(points)))
	}
}

// wishes returns what clients of this node follow and other nodes evaluate.
func (r *Relay) wishes() []wish {
	var out []wish
	for id, series := range r.o.Stream.Followed(mostWishes) {
		if owns, known := r.o.Owns(id); owns || !known {
			continue
		}
		for _, key := range series {
			out = append(out, wish{id, key})
		}
	}
	return out
}

// take returns points to be sent, and forgets wishes that are over.
func (r *Relay) take() []point {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []point
	for w, data := range r.waiting {
		if len(out) == mostSent {
			break
		}
		out = append(out, point{w, data})
		delete(r.waiting, w)
	}
	now := time.Now()
	r.count = 0
	for id, series := range r.wished {
		maps.DeleteFunc(series, func(_ string, until time.Time) bool { return !now.Before(until) })
		if r.count += len(series); len(series) == 0 {
			delete(r.wished, id)
		}
	}
	return out
}

// announce sends wishes and points, in texts that are short enough.
func (r *Relay) announce(ctx context.Context, wishes []wish, points []point) error {
	texts := split(r.o.Instance, wishes, func(m *message, list []wish) { m.Wishes = list })
	texts = append(texts, split(r.o.Instance, points, func(m *message, list []point) { m.Points = list })...)
	if len(texts) == 0 {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, relayWithin)
	defer cancel()
	return r.o.Announcer.Announce(bounded, texts)
}

// split encodes a list as messages of at most textMost bytes. By the bounds
// above every item fits into one, even when each byte of it has to be escaped.
func split[T any](from string, list []T, put func(*message, []T)) []string {
	var texts []string
	size, start := textEnvelope, 0
	flush := func(end int) {
		if start == end {
			return
		}
		m := message{From: from}
		put(&m, list[start:end])
		texts = append(texts, string(encode(m)))
	}
	for i, item := range list {
		n := len(encode(item)) + 1
		if size+n > textMost {
			flush(i)
			size, start = textEnvelope, i
		}
		size += n
	}
	flush(len(list))
	return texts
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: encoding an announcement: " + err.Error())
	}
	return b
}

// hear takes what a node announced. What cannot be read is ignored: a newer
// program may say more.
func (r *Relay) hear(text string) {
	m, err := decode(text)
	if err != nil {
		r.log.Debug("an announcement cannot be read", "err", err)
		return
	}
	if m.From == r.o.Instance {
		return
	}
	r.note(m.Wishes)
	for _, p := range m.Points {
		if err := r.o.Stream.Publish(p.topic(), p.Data); err != nil {
			r.log.Debug("a live point of another node was not published", "err", err)
			continue
		}
		r.moved.WithLabelValues("received").Inc()
	}
}

var errStrange = errors.New("it is not one of this program")

// decode reads an announcement and checks that its parts are within bounds.
func decode(text string) (m message, err error) {
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return message{}, err
	}
	strange := func(w wish) bool { return w.Detector == "" || w.Series == "" || len(w.topic()) > mostTopic }
	if m.From == "" || slices.ContainsFunc(m.Wishes, strange) ||
		slices.ContainsFunc(m.Points, func(p point) bool { return strange(p.wish) || len(p.Data) > mostPayload }) {
		return message{}, errStrange
	}
	return m, nil
}

// note keeps what another node wishes for a while.
func (r *Relay) note(wishes []wish) {
	if len(wishes) == 0 {
		return
	}
	until := time.Now().Add(wishLasts)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range wishes {
		series := r.wished[w.Detector]
		if _, again := series[w.Series]; !again {
			if r.count >= mostWished {
				continue
			}
			r.count++
		}
		if series == nil {
			series = map[string]time.Time{}
			r.wished[w.Detector] = series
		}
		series[w.Series] = until
	}
}
