package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wire is the far end of relays: what one announces, all hear.
type wire struct {
	mu    sync.Mutex
	ears  []chan string
	texts int
	away  bool
}

// wireEnd is the wire as one node has it.
type wireEnd struct {
	*wire
	ear chan string
}

func (w *wire) end() wireEnd {
	e := wireEnd{w, make(chan string, 256)}
	w.ears = append(w.ears, e.ear)
	return e
}

func (w wireEnd) Announcements() <-chan string { return w.ear }

func (w wireEnd) Announce(_ context.Context, texts []string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away {
		return errAway
	}
	for _, text := range texts {
		if len(text) >= 8000 {
			return errors.New("payload string too long")
		}
		w.texts++
		for _, ear := range w.ears {
			ear <- text
		}
	}
	return nil
}

// screen is a live stream with clients that follow some series.
type screen struct {
	mu      sync.Mutex
	follows map[string][]string
	got     map[string][]string
}

func (s *screen) Followed(limit int) map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]string{}
	for id, keys := range s.follows {
		for _, key := range keys {
			if limit--; limit >= 0 {
				out[id] = append(out[id], key)
			}
		}
	}
	return out
}

func (s *screen) Publish(topic string, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[topic] = append(s.got[topic], string(payload))
	return nil
}

func (s *screen) follow(id string, keys ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follows[id] = keys
}

func (s *screen) seen(topic string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[topic]
}

// topics returns how many topics got points.
func (s *screen) topics() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// relays runs two relays: the first node owns det_a, the second det_b, and
// there is no other detector.
func relays(t *testing.T) (*wire, [2]*Relay, [2]*screen) {
	t.Helper()
	w := &wire{}
	var out [2]*Relay
	var screens [2]*screen
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range out {
		own := fmt.Sprintf("det_%c", 'a'+i)
		screens[i] = &screen{follows: map[string][]string{}, got: map[string][]string{}}
		out[i] = NewRelay(RelayOptions{Instance: fmt.Sprint("node_", i), Announcer: w.end(), Stream: screens[i],
			Owns: func(id string) (bool, bool) { return id == own, id == "det_a" || id == "det_b" }})
		running.Go(func() { _ = out[i].Run(ctx) })
	}
	t.Cleanup(func() { cancel(); running.Wait() })
	return w, out, screens
}

// TestPointsReachOtherNodes follows a series on the node that does not own it.
func TestPointsReachOtherNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, r, s := relays(t)
		const key = `{path="/a<b>"}`
		time.Sleep(time.Minute)
		if w.texts != 0 {
			t.Fatalf("nobody follows anything, and %d texts were announced", w.texts)
		}
		r[0].Point("det_a", key, []byte(`{"t":0}`)) // nobody follows it yet
		s[1].follow("det_a", key)
		s[1].follow("det_none", key)
		s[0].follow("det_a", key) // its own, for which nobody is asked
		time.Sleep(time.Second)
		if got := r[0].Watched("det_a"); len(got) != 1 || got[0] != key {
			t.Fatalf("it is asked for %q", got)
		}
		if got := append(r[1].Watched("det_a"), r[0].Watched("det_none")...); got != nil {
			t.Errorf("somebody is asked for %q", got)
		}
		for i := range 3 {
			r[0].Point("det_a", key, fmt.Appendf(nil, `{"t":%d}`, i+1))
			r[0].Point("det_a", `{other="series"}`, []byte(`{"t":9}`))
			if i > 0 { // the first one is replaced by the second
				time.Sleep(time.Second)
			}
		}
		if got := strings.Join(s[1].seen("series/det_a/"+key), " "); got != `{"t":2} {"t":3}` {
			t.Errorf("the other node got %s", got)
		}
		if n := s[0].topics() + s[1].topics(); n != 1 {
			t.Errorf("%d topics got points", n)
		}
		time.Sleep(2 * wishLasts)
		if len(r[0].Watched("det_a")) != 1 {
			t.Error("what is followed all the time is forgotten")
		}
		s[1].follow("det_a")
		time.Sleep(2 * wishLasts)
		if got := r[0].Watched("det_a"); got != nil || r[0].count != 0 || len(r[0].wished) != 0 {
			t.Errorf("nobody follows it any more, and it is asked for %q (%d)", got, r[0].count)
		}
		before := w.texts
		r[0].Point("det_a", key, []byte(`{"t":4}`))
		time.Sleep(time.Minute)
		if w.texts != before || len(s[1].seen("series/det_a/"+key)) != 2 {
			t.Error("points are sent that nobody follows")
		}
	})
}

// TestRelayOutage takes the database away: points get lost, and afterwards they
// come again.
func TestRelayOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, r, s := relays(t)
		w.away = true
		s[1].follow("det_a", "{}")
		time.Sleep(time.Minute)
		w.mu.Lock()
		w.away = false
		w.mu.Unlock()
		time.Sleep(time.Second)
		r[0].Point("det_a", "{}", []byte(`{"t":1}`))
		time.Sleep(time.Second)
		if got := s[1].seen("series/det_a/{}"); len(got) != 1 {
			t.Errorf("after an outage %q came", got)
		}
	})
}

// TestRelayBounds follows more series than a node may ask for, with the longest
// keys, and hears what no relay says.
func TestRelayBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, r, s := relays(t)
		keys := make([]string, mostWishes+100)
		for i := range keys {
			prefix := fmt.Sprintf("{%04d", i)
			keys[i] = prefix + strings.Repeat([]string{"a", "<"}[i%50/49], mostTopic-len("series/det_a/")-len(prefix))
		}
		s[1].follow("det_a", keys...)
		time.Sleep(time.Second + relayEvery/2) // between two rounds
		if n := len(r[0].Watched("det_a")); n != mostWishes {
			t.Errorf("it is asked for %d series", n)
		}
		for _, key := range keys {
			r[0].Point("det_a", key, fmt.Appendf(nil, `{"t":"%s"}`, strings.Repeat("1", mostPayload-8)))
		}
		time.Sleep(relayEvery)
		if n := s[1].topics(); n == 0 || n > mostSent {
			t.Errorf("%d points in one round", n)
		}
		time.Sleep(2 * relayEvery)
		if n := s[1].topics(); n != mostWishes {
			t.Errorf("%d points came", n)
		}
		for _, text := range []string{"", "{", `[]`, `{"from":""}`, `{"from":"x","wishes":[{"detector":"","series":"a"}]}`,
			`{"from":"x","points":[{"detector":"det_a","series":"` + strings.Repeat("a", mostTopic) + `","data":1}]}`,
			`{"from":"x","points":[{"detector":"det_a","series":"a","data":"` + strings.Repeat("a", mostPayload) + `"}]}`} {
			if m, err := decode(text); err == nil {
				t.Errorf("%.60q is taken as %+v", text, m)
			}
		}
		many := message{From: "x"}
		for i := range mostWished + 1000 {
			many.Wishes = append(many.Wishes, wish{"det_x", fmt.Sprint(i)})
		}
		text, err := json.Marshal(many)
		if err != nil {
			t.Fatal(err)
		}
		w.ears[0] <- string(text)
		time.Sleep(time.Millisecond)
		r[0].mu.Lock()
		defer r[0].mu.Unlock()
		if r[0].count != mostWished {
			t.Errorf("%d wishes are kept", r[0].count)
		}
	})
}
