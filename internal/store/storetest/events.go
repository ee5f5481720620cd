package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"aiops/internal/model"
	"aiops/internal/store"
)

func appendEvent(t *testing.T, s *store.Store, topic string) model.Event {
	t.Helper()
	return must(s.AppendEvent(t.Context(), model.Event{Type: model.EventHealthChanged, Topic: topic, Data: json.RawMessage(`{"a":1}`)}))(t)
}

// eventsGapless lets writers race, failures among them, and reads meanwhile.
func eventsGapless(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	if n := must(s.OldestEventID(ctx))(t); n != 1 {
		t.Fatalf("the oldest event of nothing is %d", n)
	}
	newDetector(t, s, "taken")
	const writers, each = 8, 50
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := map[int64]bool{}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if i%5 == 4 { // an error in between takes its number back
					if _, err := s.CreateDetector(ctx, model.Detector{Name: "taken"}); model.KindOf(err) != model.KindConflict {
						t.Errorf("a name in use: %v", err)
					}
					continue
				}
				e, err := s.AppendEvent(ctx, model.Event{Type: model.EventLoadChanged, Topic: fmt.Sprint("w/", w), Data: json.RawMessage(fmt.Sprint(i))})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if acked[e.ID] {
					t.Errorf("number %d was given twice", e.ID)
				}
				acked[e.ID] = true
				mu.Unlock()
			}
		})
	}
	const total = writers*each*4/5 + 1
	var seen int64
	next := make([]int, writers)
	signal, stop := s.EventSignal()
	defer stop()
	for seen < total {
		evs := must(s.Events(ctx, seen, nil, 17))(t)
		for _, e := range evs {
			if e.ID != seen+1 {
				t.Fatalf("event %d follows %d", e.ID, seen)
			}
			seen = e.ID
			var w, i int
			if _, err := fmt.Sscanf(e.Topic+" "+string(e.Data), "w/%d %d", &w, &i); err == nil {
				if i < next[w] {
					t.Errorf("writer %d: %d comes after %d", w, i, next[w])
				}
				next[w] = i
			}
		}
		if len(evs) == 0 {
			select {
			case <-signal:
			case <-time.After(20 * time.Second):
				t.Fatalf("no signal after event %d", seen)
			}
		}
	}
	wg.Wait()
	if len(acked) != total-1 || last(t, s) != total {
		t.Errorf("%d acknowledged, the last is %d", len(acked), last(t, s))
	}
	_, err := s.AppendEvent(ctx, model.Event{Type: "x", Topic: "y", Data: json.RawMessage(`{`)})
	wantKind(t, err, model.KindInvalid)
	_, err = s.AppendEvent(ctx, model.Event{})
	wantKind(t, err, model.KindInvalid)
}

func eventsTopics(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	for _, topic := range []string{"anomalies", "anomalies/an_1", "anomalies/an_2", "anomalies0", "anomaliesx/an_1", "detectors/det_1", "system", "Anomalies/a", "anomalies-a/b"} {
		appendEvent(t, s, topic)
	}
	for _, c := range []struct {
		topics []string
		want   []int64
	}{
		{nil, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{[]string{"anomalies"}, []int64{1, 2, 3}},
		{[]string{"anomalies/an_2"}, []int64{3}},
		{[]string{"detectors", "system"}, []int64{6, 7}},
		{[]string{"detector"}, nil},
		{[]string{"anomalies", "anomalies/an_1"}, []int64{1, 2, 3}},
		{[]string{"%"}, nil},
		{[]string{""}, nil},
	} {
		var got []int64
		for _, e := range must(s.Events(ctx, 0, c.topics, 0))(t) {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("topics %q give %v, want %v", c.topics, got, c.want)
		}
	}
	evs := must(s.Events(ctx, 3, nil, 2))(t)
	if len(evs) != 2 || evs[0].ID != 4 || string(evs[0].Data) != `{"a":1}` || evs[0].Type != model.EventHealthChanged || evs[0].Time.IsZero() {
		t.Errorf("events after 3 are %+v", evs)
	}
}

func eventsSignal(t *testing.T, fresh FreshFunc) {
	s := setup(t, fresh)
	a, stopA := s.EventSignal()
	b, stopB := s.EventSignal()
	drain := func(c <-chan struct{}) {
		for {
			select {
			case <-c:
			default:
				return
			}
		}
	}
	await := func(c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(10 * time.Second):
			t.Fatal("no signal")
		}
	}
	drain(a)
	appendEvent(t, s, "x")
	await(a)
	await(b)
	stopA()
	drain(a)
	appendEvent(t, s, "x")
	await(b)
	select {
	case <-a:
		t.Error("a signal after unsubscribing")
	default:
	}
	stopB()
	stopB()
}

func eventsPrune(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	for range 10 {
		appendEvent(t, s, "x")
	}
	if n := must(s.PruneEvents(ctx, time.Now().Add(-time.Hour)))(t); n != 0 {
		t.Errorf("pruned %d young events", n)
	}
	if n := must(s.PruneEvents(ctx, time.Now().Add(time.Hour)))(t); n != 9 {
		t.Errorf("pruned %d events", n)
	}
	if n := must(s.OldestEventID(ctx))(t); n != 10 {
		t.Errorf("the oldest is %d", n)
	}
	if e := appendEvent(t, s, "x"); e.ID != 11 {
		t.Errorf("the next is %d", e.ID)
	}
}

func snapshots(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	big := make([]byte, 3<<20)
	for i := range big { // does not compress
		big[i] = byte(i*2654435761>>7) ^ byte(i>>9)
	}
	for _, w := range []int64{1000, 2000, 3000} {
		ok(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: d.ID, DetectorVersion: 4, ModelVersion: 1, Watermark: w, Series: 5,
			Parts: [][]byte{big, {}, []byte("third"), nil, []byte(fmt.Sprint(w))}, CreatedAt: base}))
	}
	want := model.Snapshot{DetectorID: d.ID, DetectorVersion: 4, ModelVersion: 1, Watermark: 3000, Series: 5, CreatedAt: base,
		Parts: [][]byte{big, {}, []byte("third"), nil, []byte("3000")}}
	same(t, must(s.LatestSnapshot(ctx, d.ID, 1))(t), want)
	if got := must(s.SnapshotBefore(ctx, d.ID, 1, 2999))(t); got.Watermark != 2000 || string(got.Parts[4]) != "2000" {
		t.Errorf("before 2999 is %d", got.Watermark)
	}
	if got := must(s.SnapshotBefore(ctx, d.ID, 1, 2000))(t); got.Watermark != 2000 {
		t.Errorf("at most 2000 is %d", got.Watermark)
	}
	_, err := s.SnapshotBefore(ctx, d.ID, 1, 999)
	wantKind(t, err, model.KindNotFound)
	_, err = s.LatestSnapshot(ctx, d.ID, 2)
	wantKind(t, err, model.KindNotFound)
	// The same watermark again replaces, also with fewer parts.
	ok(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: d.ID, ModelVersion: 1, Watermark: 3000, Parts: [][]byte{[]byte("new")}}))
	got := must(s.LatestSnapshot(ctx, d.ID, 1))(t)
	if len(got.Parts) != 1 || string(got.Parts[0]) != "new" || got.CreatedAt.IsZero() {
		t.Errorf("replaced by %+v", got)
	}
	wantKind(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: "det_none", ModelVersion: 1, Watermark: 1}), model.KindNotFound)
}

func snapshotsPrune(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	now := base
	var kept []int64
	// Every 20 minutes for 20 days, two model versions.
	for at := now.Add(-20 * 24 * time.Hour); !at.After(now); at = at.Add(20 * time.Minute) {
		if now.Sub(at) > 48*time.Hour && at.Hour() != 23 && at.Hour() != 0 {
			continue // the suite stays quick
		}
		ok(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: d.ID, ModelVersion: 1, Watermark: at.UnixMilli(), Parts: [][]byte{{1}}}))
	}
	old := now.Add(-100 * 24 * time.Hour)
	ok(t, s.SaveSnapshot(ctx, model.Snapshot{DetectorID: d.ID, ModelVersion: 2, Watermark: old.UnixMilli(), Parts: [][]byte{{2}}}))
	if n := must(s.PruneSnapshots(ctx, now))(t); n == 0 {
		t.Fatal("nothing was pruned")
	}
	if n := must(s.PruneSnapshots(ctx, now))(t); n != 0 {
		t.Errorf("pruning again deletes %d", n)
	}
	for w := now.UnixMilli(); ; {
		snap, err := s.SnapshotBefore(ctx, d.ID, 1, w)
		if model.KindOf(err) == model.KindNotFound {
			break
		}
		ok(t, err)
		kept = append(kept, snap.Watermark)
		w = snap.Watermark - 1
	}
	// The latest and one for each of the 23 full hours before it, one of the
	// oldest hour within the day, then one for each day.
	var hours, days int
	for _, w := range kept {
		if age := now.Sub(time.UnixMilli(w)); age < 24*time.Hour {
			hours++
		} else if age < 14*24*time.Hour {
			days++
		} else {
			t.Errorf("kept one of %v", age)
		}
	}
	if hours != 25 || days < 12 || days > 14 {
		t.Errorf("kept %d within the day, %d of days before", hours, days)
	}
	if got := must(s.LatestSnapshot(ctx, d.ID, 2))(t); got.Watermark != old.UnixMilli() {
		t.Errorf("the only snapshot of a version went")
	}
}

func modelVersions(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	_, err := s.ActiveModelVersion(ctx, d.ID)
	wantKind(t, err, model.KindNotFound)
	v := model.ModelVersion{DetectorID: d.ID, DetectorVersion: 1, State: model.ModelActive, TrainedFrom: base, TrainedTo: base.Add(time.Hour),
		Series: 3, SizeBytes: 100, CreatedAt: base, Reason: "created"}
	before := last(t, s)
	for n := range int64(3) {
		v.Version = n + 1
		ok(t, s.SaveModelVersion(ctx, v))
	}
	v.Version, v.State = 4, model.ModelShadow
	ok(t, s.SaveModelVersion(ctx, v))
	states := func() string {
		var out string
		for _, v := range must(s.ModelVersions(ctx, d.ID))(t) {
			out += fmt.Sprint(v.Version, v.State, " ")
		}
		return out
	}
	if got := states(); got != "4shadow 3active 2retired 1retired " {
		t.Fatalf("versions are %s", got)
	}
	same(t, must(s.ModelVersions(ctx, d.ID))(t)[0], v)
	must(s.PromoteModel(ctx, d.ID, 4))(t)
	if got := states(); got != "4active 3retired 2retired 1retired " {
		t.Fatalf("versions are %s", got)
	}
	if got := must(s.RollbackModel(ctx, d.ID))(t); got.Version != 3 || got.Reason != "rolled back" {
		t.Fatalf("rolled back to %+v", got)
	}
	if got := states(); got != "4retired 3active 2retired 1retired " {
		t.Fatalf("versions are %s", got)
	}
	if got := must(s.ActiveModelVersion(ctx, d.ID))(t); got.Version != 3 {
		t.Errorf("active is %d", got.Version)
	}
	events := last(t, s)
	must(s.PromoteModel(ctx, d.ID, 3))(t) // is active already
	_, err = s.RetireModel(ctx, d.ID, 3)
	wantKind(t, err, model.KindConflict)
	_, err = s.PromoteModel(ctx, d.ID, 9)
	wantKind(t, err, model.KindNotFound)
	_, err = s.PromoteModel(ctx, "det_none", 1)
	wantKind(t, err, model.KindNotFound)
	v.Version = 0
	wantKind(t, s.SaveModelVersion(ctx, v), model.KindInvalid)
	if last(t, s) != events {
		t.Error("what changed nothing wrote an event")
	}
	topic := " detectors/" + d.ID
	same(t, types(t, s, before), []string{"detector.trained" + topic, "detector.trained" + topic, "detector.trained" + topic, "detector.trained" + topic,
		"detector.updated" + topic, "detector.updated" + topic})
	must(s.RollbackModel(ctx, d.ID))(t)
	must(s.RollbackModel(ctx, d.ID))(t)
	_, err = s.RollbackModel(ctx, d.ID)
	wantKind(t, err, model.KindConflict)
}

func idempotency(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	s, ctx := open(t, cfg), t.Context()
	k := model.IdempotencyKey{Principal: "ada", Key: "k1", Operation: "POST /detectors", BodyHash: "abc"}
	var wg sync.WaitGroup
	var mu sync.Mutex
	counts := map[model.IdempotencyState]int{}
	for range 20 {
		wg.Go(func() {
			st, _, err := s.BeginIdempotent(ctx, k)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			counts[st]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if counts[model.IdempotencyFresh] != 1 || counts[model.IdempotencyInProgress] != 19 {
		t.Fatalf("claims are %v", counts)
	}
	answer := &model.StoredAnswer{Status: 201, Header: map[string][]string{"ETag": {`"1"`}, "Content-Type": {"application/json"}}, Body: []byte("{\x00\xff}")}
	ok(t, s.FinishIdempotent(ctx, k, answer))
	begin := func(k model.IdempotencyKey) (model.IdempotencyState, *model.StoredAnswer) {
		t.Helper()
		st, a, err := s.BeginIdempotent(ctx, k)
		ok(t, err)
		return st, a
	}
	if st, a := begin(k); st != model.IdempotencyReplay {
		t.Errorf("a repetition is %v", st)
	} else {
		same(t, a, answer)
	}
	other := k
	other.BodyHash = "def"
	if st, _ := begin(other); st != model.IdempotencyMismatch {
		t.Errorf("another body is %v", st)
	}
	other = k
	other.Operation = "POST /sources"
	if st, _ := begin(other); st != model.IdempotencyMismatch {
		t.Errorf("another operation is %v", st)
	}
	other = k
	other.Principal = "bob"
	if st, _ := begin(other); st != model.IdempotencyFresh {
		t.Errorf("another principal is %v", st)
	}
	ok(t, s.FinishIdempotent(ctx, other, nil)) // gives it back
	if st, _ := begin(other); st != model.IdempotencyFresh {
		t.Errorf("a key given back is %v", st)
	}
	wantKind(t, s.FinishIdempotent(ctx, k, answer), model.KindConflict)
	wantKind(t, s.FinishIdempotent(ctx, other, &model.StoredAnswer{Status: 200, Body: make([]byte, 2<<20)}), model.KindTooLarge)
	empty := &model.StoredAnswer{Status: 204}
	ok(t, s.FinishIdempotent(ctx, other, empty))
	if st, a := begin(other); st != model.IdempotencyReplay || a.Status != 204 || len(a.Body) != 0 {
		t.Errorf("an empty answer is %v %+v", st, a)
	}
	if n := must(s.PruneIdempotency(ctx, time.Now().Add(23*time.Hour)))(t); n != 0 {
		t.Errorf("%d keys went before a day", n)
	}
	if n := must(s.PruneIdempotency(ctx, time.Now().Add(25*time.Hour)))(t); n != 2 {
		t.Errorf("%d keys went after a day", n)
	}
	if st, _ := begin(k); st != model.IdempotencyFresh {
		t.Errorf("a forgotten key is %v", st)
	}
}

// What a request wrote and that it wrote are stored together: its key is never
// given to a repetition afterwards, whether the program failed or crashed.
func idempotencyEffect(t *testing.T, fresh FreshFunc) {
	cfg := fresh(t)
	s, ctx := open(t, cfg), t.Context()
	key := func(name string) model.IdempotencyKey {
		return model.IdempotencyKey{Principal: "ada", Key: name, Operation: "POST /detectors", BodyHash: "abc"}
	}
	claim := func(s *store.Store, name string, want model.IdempotencyState) {
		t.Helper()
		if st, _, err := s.BeginIdempotent(ctx, key(name)); err != nil || st != want {
			t.Errorf("claiming %s is %v, %v; want %v", name, st, err, want)
		}
	}
	effect := func(name string) error {
		_, err := s.CreateDetector(s.WithClaim(ctx, key(name)), model.Detector{Name: name})
		return err
	}
	for _, name := range []string{"answered", "failed after", "failed before", "crashed after", "crashed before", "refused"} {
		claim(s, name, model.IdempotencyFresh)
	}
	for _, name := range []string{"answered", "failed after", "crashed after"} {
		ok(t, effect(name))
	}
	// A write that is undone leaves no mark.
	_, err := s.CreateDetector(s.WithClaim(ctx, key("refused")), model.Detector{Name: "answered"})
	wantKind(t, err, model.KindConflict)
	for _, name := range []string{"failed after", "failed before", "refused"} {
		ok(t, s.FinishIdempotent(ctx, key(name), nil))
	}
	ok(t, s.FinishIdempotent(ctx, key("answered"), &model.StoredAnswer{Status: 201}))
	claim(s, "answered", model.IdempotencyReplay)
	claim(s, "failed after", model.IdempotencyUnanswered)
	claim(s, "failed before", model.IdempotencyFresh)
	claim(s, "refused", model.IdempotencyFresh)
	// Writing after the answer, in the background, is no fault.
	_, err = s.CreateDetector(s.WithClaim(ctx, key("answered")), model.Detector{Name: "later"})
	ok(t, err)
	// Whoever lost its claim must not write any more.
	_, err = s.CreateDetector(s.WithClaim(ctx, key("never claimed")), model.Detector{Name: "never"})
	wantKind(t, err, model.KindConflict)

	ok(t, s.Close()) // what a crash leaves behind is the same: nothing of these keys is kept in memory
	s = open(t, cfg)
	claim(s, "answered", model.IdempotencyReplay)
	claim(s, "failed after", model.IdempotencyUnanswered)
	if s.Engine() == "sqlite" { // several processes share PostgreSQL: there a claim is left only after two minutes
		claim(s, "crashed after", model.IdempotencyUnanswered)
		claim(s, "crashed before", model.IdempotencyFresh)
	}
	list := must(s.AllDetectors(ctx))(t)
	if len(list) != 4 {
		t.Errorf("%d detectors, want 4: one of each claim with an effect, and the later one", len(list))
	}
}

func writeIsolation(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	newDetector(t, s, "taken")
	const n = 200
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			name := fmt.Sprint("d", i)
			if i%3 == 0 {
				name = "taken"
			}
			_, errs[i] = s.CreateDetector(ctx, model.Detector{Name: name})
		})
	}
	wg.Wait()
	for i, err := range errs {
		if i%3 == 0 {
			wantKind(t, err, model.KindConflict)
		} else if err != nil {
			t.Fatalf("detector %d: %v", i, err)
		}
	}
	if got := must(s.AllDetectors(ctx))(t); len(got) != 1+n-(n+2)/3 {
		t.Errorf("%d detectors", len(got))
	}
	if got := last(t, s); got != int64(1+n-(n+2)/3) {
		t.Errorf("%d events", got)
	}
}

func concurrentUpdates(t *testing.T, fresh FreshFunc) {
	s, ctx := setup(t, fresh), t.Context()
	d := newDetector(t, s, "a")
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				cur, err := s.Detector(ctx, d.ID)
				if err != nil {
					t.Error(err)
					return
				}
				next := cur
				next.FalseAlarmsPerWeek++
				_, err = s.UpdateDetector(ctx, next, cur.Version, model.EventDetectorUpdated)
				if err == nil {
					done++
				} else if model.KindOf(err) != model.KindPrecondition {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got := must(s.Detector(ctx, d.ID))(t)
	if got.Version != 1+writers*each || got.FalseAlarmsPerWeek != 1+writers*each {
		t.Errorf("version %d, counter %v", got.Version, got.FalseAlarmsPerWeek)
	}
}

func closed(t *testing.T, fresh FreshFunc) {
	s := setup(t, fresh)
	ok(t, s.Ping(t.Context()))
	ok(t, s.Close())
	ok(t, s.Close())
	_, err := s.CreateDetector(t.Context(), model.Detector{Name: "a"})
	wantKind(t, err, model.KindUnavailable)
	if !errors.Is(err, store.ErrClosed) {
		t.Errorf("%v is not ErrClosed", err)
	}
	if s.Err() != nil {
		t.Errorf("a closed store is not a failed one: %v", s.Err())
	}
}
