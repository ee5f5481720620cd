package bench

import (
	"bytes"
	"math"
	"os"
	"testing"
	"time"
)

// TestLiveChild is the other processes of the measure, not a test.
func TestLiveChild(t *testing.T) {
	if os.Getenv(liveRole) == "" {
		t.Skip("this is a child process of TestLive")
	}
	if _, err := Live(t.Context(), LiveOptions{}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestLive(t *testing.T) {
	t.Parallel()
	r, err := Live(t.Context(), LiveOptions{
		Clients: 40, Rate: 20, For: time.Second, Burst: 30, Slow: -1, Dir: t.TempDir(),
		Child: []string{os.Args[0], "-test.run=^TestLiveChild$"},
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	round := r.Rounds[0]
	for name, s := range map[string]LiveSide{"gateway": round.Gateway, "bare": round.Bare} {
		if s.Steady.Deliveries != 40*20 || s.Burst.Deliveries != 40*30 || s.Steady.P99 <= 0 || s.Steady.P50 > s.Steady.P99 || s.Steady.P99 > s.Steady.Max+0.1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if g := round.Gateway; g.Committed.Deliveries < 40*19 || g.Committed.Deliveries > 40*20 || g.Committed.P50 >= g.Steady.P99 {
		t.Errorf("from the commit: %+v", g)
	}
	if b := round.Bare; math.Abs(b.Committed.P50-b.Steady.P50) > 1 {
		t.Errorf("the bare loop commits nothing, and yet %+v", b)
	}
	if round.Incorrect != 0 || round.P99Ratio <= 0 || len(r.Aims) == 0 {
		t.Errorf("report %+v", r)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !bytes.Contains(table.Bytes(), []byte("that to the bare loop's")) {
		t.Errorf("table %s: %v", table.Bytes(), err)
	}
}

// TestLiveAims is the control of the table of aims: figures beyond them are
// called so.
func TestLiveAims(t *testing.T) {
	t.Parallel()
	bad := LiveRound{Clients: 10_000, Gateway: LiveSide{PerClientBytes: 21 << 10, Committed: LiveLatency{P99: 251}, Burst: LiveLatency{Max: 2001}}, P99Ratio: 1.3, Incorrect: 1,
		Slow: &LiveSlow{Clients: 10, CutOff: 9, LastCutS: 11, P99Ratio: 1.3}, Crash: &LiveCrash{BackSeconds: 61, MostInSecond: 2000, Missed: 1}}
	for _, a := range liveAims([]LiveRound{bad}) {
		if a.Met {
			t.Errorf("%+v is called met", a)
		}
	}
	for _, a := range liveAims([]LiveRound{{Clients: 10_000, Slow: &LiveSlow{}, Crash: &LiveCrash{}}}) {
		if !a.Met {
			t.Errorf("%+v is called missed", a)
		}
	}
}

// TestLiveClientsSeeFaults is the control: a client that is given a stream with
// faults has to tell.
func TestLiveClientsSeeFaults(t *testing.T) {
	t.Parallel()
	all := &liveClients{tally: new(liveTally), committed: new(liveTally)}
	c := &liveClient{all: all}
	for _, m := range []string{
		`{"type":"hello","id":"c1","last_event_id":7}`,
		`{"type":"events","events":[{"id":8,"type":"x","data":{"commit":1,"t":1}},{"id":9,"data":{"commit":1,"t":2}}]}`,
		`{"type":"events","events":[{"id":9,"data":{"commit":1,"t":2}}]}`,
		`{"type":"events","events":[{"id":13,"data":{"commit":1,"t":2}}]}`,
		`{"type":"stream.reset","oldest_event_id":1}`,
	} {
		c.take([]byte(m), time.Unix(0, 3))
	}
	if l := all.tally.latency(); l.Repeated != 1 || l.Lost != 4 || l.Deliveries != 3 {
		t.Errorf("%+v; want 1 repeated, 3+1 lost, 3 delivered", l)
	}
}
