package realtime

import (
	"slices"
	"testing"

	"aiops/internal/model"
)

func TestEventsReachTheirTopics(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	parent, exact, other := r.dial(nil), r.dial(nil), r.dial(nil)
	parent.subscribe(nil, "anomalies", "system")
	exact.subscribe(nil, "anomalies/an_1", "anomalies")
	other.subscribe(nil, "anomalies/an_2", "detectors")

	r.outbox.add("anomalies/an_1", `{"n":1}`)
	r.outbox.add("anomaliesx", `{}`)
	r.outbox.add("detectors/d", `{}`)
	r.outbox.add("system", `{}`)

	if got := ids(parent.events(2)); !slices.Equal(got, []int64{1, 4}) {
		t.Errorf("a parent topic got %v", got)
	}
	got := exact.events(1)
	if got[0].ID != 1 || string(got[0].Data) != `{"n":1}` || got[0].Type != "test.happened" || got[0].Topic != "anomalies/an_1" || got[0].Time.IsZero() {
		t.Errorf("a topic and its parent got %+v", got)
	}
	if got := ids(other.events(1)); !slices.Equal(got, []int64{3}) {
		t.Errorf("other topics got %v", got)
	}

	exact.send(map[string]any{"type": "unsubscribe", "topics": []string{"anomalies"}})
	exact.expect("unsubscribed")
	r.outbox.add("anomalies/an_3", `{}`)
	r.outbox.add("anomalies/an_1", `{}`)
	if got := ids(exact.events(1)); !slices.Equal(got, []int64{6}) {
		t.Errorf("after unsubscribing from the parent got %v", got)
	}
	exact.send(map[string]any{"type": "ping"})
	if m := exact.expect("pong"); m.LastEventID != 6 {
		t.Errorf("pong %+v", m)
	}
}

// TestResume is the core promise: from any cursor on, everything once and in
// order, whether it is still in memory or only in the log, while writers write.
func TestResume(t *testing.T) {
	t.Parallel()
	for name, recent := range map[string]int{"from memory": 4096, "from the log": 16} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &outbox{}
			for i := range 700 {
				o.add([]string{"anomalies/a", "detectors/b"}[i%2], `{"text":"some text that takes place"}`)
			}
			r := setup(t, Config{Recent: recent}, o)
			p := r.dial(nil)
			p.subscribe(at(100), "anomalies")
			for range 20 {
				o.add("anomalies/a", `{}`)
			}
			var want []int64
			for _, e := range o.events {
				if e.ID > 100 && e.Topic == "anomalies/a" {
					want = append(want, e.ID)
				}
			}
			if got := ids(p.events(len(want))); !slices.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
		})
	}
}

func TestPoints(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{}, nil)
	p := r.dial(nil)
	p.subscribe(nil, "series/d/x")
	if got := r.Watched("d"); !slices.Equal(got, []string{"x"}) || r.Watched("e") != nil {
		t.Errorf("watched: %v", got)
	}
	if err := r.Publish("series/d/x", []byte(`{"v":1}`)); err != nil {
		t.Fatal(err)
	}
	if m := p.expect("point"); m.Topic != "series/d/x" || string(m.Data) != `{"v":1}` {
		t.Errorf("point %+v", m)
	}
	for topic, payload := range map[string]string{"anomalies/x": `{}`, "series/": `{}`, "series/d": `{`, "": `{}`} {
		if err := r.Publish(topic, []byte(payload)); model.KindOf(err) != model.KindInvalid {
			t.Errorf("publishing %q to %q: %v", payload, topic, err)
		}
	}
	if list, _ := r.Streams(); len(list) != 1 || !slices.Equal(list[0].Topics, []string{"series/d/x"}) || list[0].State != "live" || list[0].Name != "anonymous" {
		t.Errorf("streams %+v", list)
	}
	for _, topic := range []string{"series", "series/d", "series/d/"} {
		p.send(map[string]any{"type": "subscribe", "topics": []string{topic}})
		if e := p.expect("error"); e.Code != "bad_topic" {
			t.Errorf("%s: %+v", topic, e)
		}
	}
	p.send(map[string]any{"type": "unsubscribe", "topics": []string{"series/d/x"}})
	p.expect("unsubscribed")
	if got := r.Watched("d"); got != nil {
		t.Errorf("still watched: %v", got)
	}
}
