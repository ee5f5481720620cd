package realtime

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"aiops/internal/model"
)

// TestSimulation lets chance decide what happens to a gateway and its clients:
// bursts, a log that breaks, is deaf or forgets, a gateway that starts anew,
// clients that come, break off, stop reading and go on from where they were.
// Whatever happened, once the faults stop every client has each event of its
// topics once and in order, or was told of the gap. A seed is a run that can be
// repeated; AIOPS_SEEDS=200 runs more of them.
func TestSimulation(t *testing.T) { //nolint:paralleltest // tests that depend on being in time run without it
	seeds := 8
	if text := os.Getenv("AIOPS_SEEDS"); text != "" {
		var err error
		if seeds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	first := uint64(time.Now().UnixNano())
	if text := os.Getenv("AIOPS_SEED"); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
		seeds = 1
	}
	for i := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			t.Parallel()
			newSimulation(t, first+i).run()
		})
	}
}

var simulatedTopics = []string{"anomalies", "anomalies/a", "anomalies/b", "detectors", "detectors/d", "system", "sources"}

type simulation struct {
	t         *testing.T
	r         *rand.Rand
	outbox    *outbox
	rig       *rig
	everyone  []*follower
	forgotten int64 // events up to here were deleted
	all       []model.Event
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	s := &simulation{t: t, r: rand.New(rand.NewPCG(seed, 1)), outbox: &outbox{}}
	s.start()
	return s
}

func (s *simulation) start() {
	s.rig = setup(s.t, Config{
		Recent: 1 + s.r.IntN(300), QueueFrames: 4 + s.r.IntN(60), Poll: model.Duration(10 * time.Millisecond),
		Heartbeat: model.Duration(200 * time.Millisecond), DrainTime: model.Duration(time.Millisecond),
	}, s.outbox)
}

func (s *simulation) burst(most int) {
	for range 1 + s.r.IntN(most) {
		s.outbox.add(simulatedTopics[s.r.IntN(len(simulatedTopics))], `"`+strings.Repeat("x", s.r.IntN(200))+`"`)
	}
}

// forget deletes a part of the log.
func (s *simulation) forget() {
	s.outbox.mu.Lock()
	last := s.outbox.last
	s.outbox.mu.Unlock()
	if last > s.forgotten {
		s.remember()
		s.forgotten += s.r.Int64N(last-s.forgotten) + 1
		s.outbox.prune(s.forgotten + 1)
	}
}

// remember keeps what the log has, before it forgets.
func (s *simulation) remember() {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	for _, e := range s.outbox.events {
		if len(s.all) == 0 || e.ID > s.all[len(s.all)-1].ID {
			s.all = append(s.all, e)
		}
	}
}

func (s *simulation) run() {
	steps := []func(){
		func() { s.burst(5) }, func() { s.burst(5) }, func() { s.burst(400) },
		func() { // somebody comes, perhaps from long ago
			if len(s.everyone) < 12 {
				s.everyone = append(s.everyone, s.follow())
			}
		},
		func() { // somebody's connection breaks
			if f := s.any(); f != nil {
				f.disconnect()
			}
		},
		func() { // somebody stops reading, or reads again
			if f := s.any(); f != nil {
				f.set(func() { f.asleep = !f.asleep })
			}
		},
		func() { s.outbox.set(func() { s.outbox.broken = !s.outbox.broken }) },
		func() { s.outbox.set(func() { s.outbox.deaf = !s.outbox.deaf }) },
		s.forget,
		func() { // the program starts anew
			s.rig.stop()
			s.start()
			for _, f := range s.everyone {
				f.set(func() { f.rig = s.rig })
			}
		},
	}
	for range 150 {
		step := s.r.IntN(len(steps))
		if step == len(steps)-1 && s.r.IntN(4) > 0 {
			step = 0
		}
		if step == 6 && s.r.IntN(2) > 0 || step == len(steps)-1 {
			s.outbox.set(func() { s.outbox.broken = false })
		}
		steps[step]()
		pause := time.NewTimer(time.Duration(s.r.IntN(4)) * time.Millisecond)
		<-pause.C
	}
	s.outbox.set(func() { s.outbox.broken, s.outbox.deaf = false, false })
	s.everyone = append(s.everyone, s.follow())
	s.burst(20)
	last := s.outbox.add("system", `"the end"`)
	for _, topic := range simulatedTopics {
		last = s.outbox.add(topic, `"the end"`)
	}
	s.remember()
	for _, f := range s.everyone {
		f.set(func() { f.asleep = false })
	}
	for i, f := range s.everyone {
		want := int64(0)
		for _, e := range s.all {
			if f.wants(e) {
				want = e.ID
			}
		}
		await(s.t, fmt.Sprintf("client %d has event %d of %d (%v)", i, want, last, f.topics), func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.seen >= want
		})
		f.disconnect()
		f.stop()
		for _, fault := range f.faults(s.all) {
			s.t.Errorf("client %d, %v from %d: %s", i, f.topics, f.since, fault)
		}
	}
	s.control()
}

// control has the judge look at streams that are wrong.
func (s *simulation) control() {
	f := &follower{topics: []string{"detectors"}, since: s.all[0].ID - 1}
	for _, e := range s.all {
		if f.wants(e) {
			f.got = append(f.got, e.ID)
		}
	}
	if faults := f.faults(s.all); len(faults) > 0 {
		s.t.Errorf("control: a whole stream is said to be wrong: %v", faults)
	}
	whole := f.got
	n := len(whole) / 2
	for name, got := range map[string][]int64{
		"lost":      slices.Concat(whole[:n], whole[n+1:]),
		"twice":     slices.Concat(whole[:n+1], whole[n:]),
		"reordered": slices.Concat(whole[:n], []int64{whole[n+1], whole[n]}, whole[n+2:]),
	} {
		f.got = got
		if len(f.faults(s.all)) == 0 {
			s.t.Errorf("control: an event that is %s was not noticed", name)
		}
	}
}

func (s *simulation) any() *follower {
	if len(s.everyone) == 0 {
		return nil
	}
	return s.everyone[s.r.IntN(len(s.everyone))]
}

// follow starts a client of some topics.
func (s *simulation) follow() *follower {
	f := &follower{t: s.t, rig: s.rig, done: make(chan struct{}), ended: make(chan struct{})}
	for _, i := range s.r.Perm(len(simulatedTopics))[:1+s.r.IntN(3)] {
		f.topics = append(f.topics, simulatedTopics[i])
	}
	s.outbox.mu.Lock()
	f.since = s.outbox.last
	s.outbox.mu.Unlock()
	if s.r.IntN(2) == 0 {
		f.since = s.r.Int64N(f.since + 1)
	}
	f.seen = f.since
	go f.run()
	return f
}

// follower is a client that comes back whenever it is cut off.
type follower struct {
	t             *testing.T
	topics        []string
	since         int64 // where it began
	done, ended   chan struct{}
	mu            sync.Mutex
	rig           *rig
	conn          *websocket.Conn
	asleep        bool
	seen          int64   // up to where it has everything, or knows that it has not
	got           []int64 // events, in the order in which they came
	gaps          [][2]int64
	misunderstood []string
}

func (f *follower) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *follower) wants(e model.Event) bool {
	return e.ID > f.since && slices.ContainsFunc(f.topics, func(t string) bool { return covers(t, e.Topic) })
}

func (f *follower) disconnect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		_ = f.conn.NetConn().Close()
	}
}

func (f *follower) stop() {
	close(f.done)
	f.disconnect()
	<-f.ended
}

func (f *follower) run() {
	defer close(f.ended)
	for {
		select {
		case <-f.done:
			return
		case <-time.After(3 * time.Millisecond):
		}
		f.mu.Lock()
		at, since := f.rig, f.seen
		f.mu.Unlock()
		conn, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(at.url("/ws"), "http"), nil)
		if err != nil {
			if response != nil {
				_ = response.Body.Close()
			}
			continue
		}
		f.set(func() { f.conn = conn })
		if conn.WriteJSON(map[string]any{"type": "subscribe", "topics": f.topics, "since": since}) == nil {
			p := &peer{Conn: conn, t: f.t}
			for f.take(p) {
			}
		}
		_ = conn.Close()
	}
}

// take reads one message; false is the end of the connection.
func (f *follower) take(p *peer) bool {
	for asleep := true; asleep; {
		select {
		case <-f.done:
			return false
		case <-time.After(time.Millisecond):
		}
		f.set(func() { asleep = f.asleep })
	}
	m, err := p.read()
	if err != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch m.Type {
	case "events":
		for _, e := range m.Events {
			f.got = append(f.got, e.ID)
			f.seen = max(f.seen, e.ID)
		}
	case "stream.reset":
		if m.OldestEventID > 0 && m.OldestEventID <= f.seen+1 {
			f.misunderstood = append(f.misunderstood, fmt.Sprintf("reset to %d with everything up to %d", m.OldestEventID, f.seen))
		}
		f.gaps = append(f.gaps, [2]int64{f.seen, m.LastEventID})
		f.seen = max(f.seen, m.LastEventID)
	}
	return true
}

// faults says what is wrong with what the client got of all events.
func (f *follower) faults(all []model.Event) []string {
	out := f.misunderstood
	if !slices.IsSorted(f.got) {
		out = append(out, fmt.Sprintf("out of order: %v", f.got))
	}
	for i := 1; i < len(f.got); i++ {
		if f.got[i] == f.got[i-1] {
			out = append(out, fmt.Sprintf("event %d twice", f.got[i]))
		}
	}
	for _, e := range all {
		told := slices.ContainsFunc(f.gaps, func(g [2]int64) bool { return e.ID > g[0] && e.ID <= g[1] })
		_, has := slices.BinarySearchFunc(f.got, e.ID, cmp.Compare[int64])
		if f.wants(e) && !has && !told {
			out = append(out, fmt.Sprintf("event %d (%s) lacks", e.ID, e.Topic))
		}
		if has && !f.wants(e) {
			out = append(out, fmt.Sprintf("event %d (%s) was not asked for", e.ID, e.Topic))
		}
	}
	return out[:min(len(out), 5)]
}
