package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"aiops/internal/model"
)

// counting counts what is read of the store.
type counting struct {
	detectorFake
	reads atomic.Int64
	slow  func()
}

func (c *counting) Detectors(ctx context.Context, f model.DetectorFilter) ([]model.Detector, string, error) {
	c.reads.Add(1)
	if c.slow != nil {
		c.slow()
	}
	return c.detectorFake.Detectors(ctx, f)
}

// keeping is a fixture that keeps answers.
func keeping(t *testing.T, config ResponsesConfig, change ...func(*Options)) (*fixture, *counting, *Responses) {
	t.Helper()
	var store *counting
	kept := NewResponses(config, nil)
	f := setup(t, append([]func(*Options){func(o *Options) {
		store = &counting{detectorFake: o.Detectors.(detectorFake)}
		o.Detectors, o.Responses = store, kept
	}}, change...)...)
	return f, store, kept
}

func TestAnswersAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, store, kept := keeping(t, ResponsesConfig{})
		first := f.do("GET", "/api/v1/detectors", "")
		second := f.do("GET", "/api/v1/detectors", "")
		if store.reads.Load() != 1 || second.Body.String() != first.Body.String() || second.Header().Get("ETag") != first.Header().Get("ETag") || first.Header().Get("ETag") == "" {
			t.Errorf("%d reads, %v then %v", store.reads.Load(), first.Header(), second.Header())
		}
		if second.Header().Get("Cache-Status") != "aiops; hit" || first.Header().Get("Cache-Status") != "" || second.Header().Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%v", second.Header())
		}
		if rec := f.do("GET", "/api/v1/detectors", "", "If-None-Match", first.Header().Get("ETag")); rec.Code != http.StatusNotModified || rec.Body.Len() != 0 || store.reads.Load() != 1 {
			t.Errorf("%d with %d bytes", rec.Code, rec.Body.Len())
		}
		if f.do("GET", "/api/v1/detectors?limit=1", ""); store.reads.Load() != 2 {
			t.Error("another query is answered with the same")
		}
		time.Sleep(time.Second + time.Millisecond)
		if f.do("GET", "/api/v1/detectors", ""); store.reads.Load() != 3 {
			t.Error("an answer is kept beyond its age")
		}
		if s := kept.Stats(); s.Hits != 2 || s.Misses != 3 || s.Bytes == 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWritesMakeKeptAnswersStale(t *testing.T) {
	t.Parallel()
	var changes atomic.Uint64
	f, store, _ := keeping(t, ResponsesConfig{MaxAge: model.Duration(time.Minute)}, func(o *Options) {
		o.Responses = NewResponses(ResponsesConfig{MaxAge: model.Duration(time.Minute)}, changes.Load)
	})
	f.do("GET", "/api/v1/detectors", "")
	if rec := f.do("POST", "/api/v1/detectors/det_1/stop", ""); rec.Code >= 300 {
		t.Fatal(rec.Body)
	}
	rec := f.do("GET", "/api/v1/detectors/det_1", "")
	if d := decode[map[string]any](t, rec); d["enabled"] != false {
		t.Error("a client does not see what it wrote")
	}
	if f.do("GET", "/api/v1/detectors", ""); store.reads.Load() != 2 {
		t.Error("a list outlives the change of its item")
	}
	changes.Add(1) // somebody else wrote
	if f.do("GET", "/api/v1/detectors", ""); store.reads.Load() != 3 {
		t.Error("a list outlives a change by others")
	}
	if f.do("GET", "/api/v1/detectors", ""); store.reads.Load() != 3 {
		t.Error("nothing changed, and it was read again: the test proves nothing")
	}
}

// TestAWriteDuringARead: what is read before a write and sent behind it is not
// kept for those who come later.
func TestAWriteDuringARead(t *testing.T) {
	t.Parallel()
	f, store, kept := keeping(t, ResponsesConfig{MaxAge: model.Duration(time.Minute)})
	store.slow = sync.OnceFunc(kept.changed)
	f.do("GET", "/api/v1/detectors", "")
	if f.do("GET", "/api/v1/detectors", ""); store.reads.Load() != 2 {
		t.Error("an answer from before a write is kept")
	}
}

func TestIdentitiesDoNotShareAnswers(t *testing.T) {
	t.Parallel()
	f, store, _ := keeping(t, ResponsesConfig{}, func(o *Options) { o.Auth = fakeAuth{world: o.Live.(*world), strict: true} })
	for i, key := range []string{"viewer", "operator", "admin"} {
		if rec := f.do("GET", "/api/v1/detectors", "", "Authorization", "Bearer "+key); rec.Code != http.StatusOK || store.reads.Load() != int64(i+1) {
			t.Errorf("%s: %d, %d reads", key, rec.Code, store.reads.Load())
		}
	}
	if rec := f.do("GET", "/api/v1/detectors", "", "Authorization", "Bearer viewer"); rec.Header().Get("Cache-Status") == "" {
		t.Error("nothing is kept: the test proves nothing")
	}
	wantProblem(t, f.do("GET", "/api/v1/detectors", ""), 401, CodeUnauthorized)
	wantProblem(t, f.do("GET", "/api/v1/detectors", "", "Authorization", "Bearer nobody"), 403, CodeForbidden)
}

// TestWhatIsNotKept: failures, tasks, probes and what is too large.
func TestWhatIsNotKept(t *testing.T) {
	t.Parallel()
	f, _, kept := keeping(t, ResponsesConfig{MaxBytes: 16})
	for _, target := range []string{"/api/v1/detectors/none", "/api/v1/detectors?limit=x", "/api/v1/tasks", "/health", "/readyz", "/api/v1/detectors"} {
		f.do("GET", target, "")
		if rec := f.do("GET", target, ""); rec.Header().Get("Cache-Status") != "" {
			t.Errorf("%s is kept", target)
		}
	}
	if s := kept.Stats(); s.Entries != 0 || s.Hits != 0 {
		t.Errorf("%+v", s)
	}
}

func TestRequestsThatComeTogetherShareOneAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, store, kept := keeping(t, ResponsesConfig{})
		store.slow = func() { time.Sleep(100 * time.Millisecond) }
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if rec := f.do("GET", "/api/v1/detectors", ""); rec.Code != http.StatusOK {
					t.Errorf("%d", rec.Code)
				}
			})
		}
		all.Wait()
		if s := kept.Stats(); store.reads.Load() != 1 || s.Hits != 49 || s.Shared != 49 {
			t.Errorf("%d reads, %+v", store.reads.Load(), s)
		}
		// Whoever makes the answer may fail: the others are served all the same.
		time.Sleep(time.Hour)
		f.world.fail = model.Errorf(model.KindDatabase, "", "gone")
		for range 20 {
			all.Go(func() { wantProblem(t, f.do("GET", "/api/v1/detectors", ""), 500, CodeDatabase) })
		}
		all.Wait()
		if n := len(kept.running); n != 0 {
			t.Errorf("%d answers are said to be under way", n)
		}
	})
}

// TestKeptAnswersEqualFreshOnes sends the same random reads, with writes in
// between, to a server that keeps answers and to one that does not.
func TestKeptAnswersEqualFreshOnes(t *testing.T) {
	t.Parallel()
	f, store, kept := keeping(t, ResponsesConfig{MaxAge: model.Duration(time.Minute)})
	opts := f.world.options()
	bare, err := New(opts)
	must(t, err)
	rng := rand.New(rand.NewPCG(3, 14))
	reads := []string{"/api/v1/detectors", "/api/v1/detectors?limit=1", "/api/v1/detectors/det_1", "/api/v1/detectors/det_1/models", "/api/v1/anomalies",
		"/api/v1/anomalies/an_1", "/api/v1/sources", "/api/v1/sources/src_main", "/api/v1/detectors/det_9", "/api/v1/detectors?q=made"}
	for i := range 3000 {
		if rng.IntN(10) == 0 {
			switch rng.IntN(5) {
			case 0:
				f.do("POST", "/api/v1/detectors", fmt.Sprintf(`{"name":"made %d","query":"up","step":"30s"}`, i))
			case 1:
				f.do("POST", "/api/v1/detectors/det_1/"+[]string{"start", "stop"}[rng.IntN(2)], "")
			case 2:
				f.do("POST", "/api/v1/anomalies/an_1/label", fmt.Sprintf(`{"label":%v}`, rng.IntN(2) == 0))
			case 3:
				f.do("PATCH", "/api/v1/detectors/det_1", fmt.Sprintf(`{"name":"patched %d"}`, i))
			case 4:
				f.do("POST", "/api/v1/anomalies/an_1/acknowledge", "")
			}
		}
		target := reads[rng.IntN(len(reads))]
		got := f.do("GET", target, "", "X-Request-Id", "the-same-id")
		req := httptest.NewRequest("GET", target, nil)
		req.Header.Set("X-Request-Id", "the-same-id")
		req.Host = "localhost"
		want := httptest.NewRecorder()
		bare.ServeHTTP(want, req)
		if got.Code != want.Code || got.Body.String() != want.Body.String() || got.Header().Get("ETag") != want.Header().Get("ETag") {
			t.Fatalf("%d: %s: %d %s\nwant %d %s", i, target, got.Code, got.Body, want.Code, want.Body)
		}
	}
	if s := kept.Stats(); s.Hits < 500 || store.reads.Load() == 0 {
		t.Errorf("the test proves little: %+v", s)
	}
}

func unpack(t *testing.T, rec *httptest.ResponseRecorder) []byte {
	t.Helper()
	var r io.Reader = rec.Body
	switch rec.Header().Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(rec.Body)
		must(t, err)
		r = z
	case "zstd":
		z, err := zstd.NewReader(rec.Body)
		must(t, err)
		defer z.Close()
		r = z
	}
	text, err := io.ReadAll(r)
	must(t, err)
	return text
}

// TestCompression asks for one answer in every form, kept and not.
func TestCompression(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]ResponsesConfig{"kept": {}, "not kept": {MaxBytes: -1}} {
		f, _, _ := keeping(t, config)
		const target = "/api/v1/errors"
		plain := f.do("GET", target, "")
		if plain.Header().Get("Content-Encoding") != "" || plain.Body.Len() < leastPacked || strings.HasPrefix(plain.Header().Get("ETag"), "W/") {
			t.Fatalf("%s: %d bytes, %v", name, plain.Body.Len(), plain.Header())
		}
		for accept, want := range map[string]string{"gzip": "gzip", "gzip, deflate, br, zstd": "zstd", "zstd;q=0, gzip": "gzip", "identity": "", "gzip;q=0": "", "br": ""} {
			rec := f.do("GET", target, "", "Accept-Encoding", accept)
			size, tag := rec.Body.Len(), rec.Header().Get("ETag")
			if got := rec.Header().Get("Content-Encoding"); got != want {
				t.Errorf("%s: %q is answered in %q", name, accept, got)
			}
			if !bytes.Equal(unpack(t, rec), plain.Body.Bytes()) {
				t.Errorf("%s: %q gives another body", name, accept)
			}
			if want != "" && (size >= plain.Body.Len()/2 || !strings.HasPrefix(tag, `W/"`) || !strings.Contains(strings.Join(rec.Header().Values("Vary"), ","), "Accept-Encoding")) {
				t.Errorf("%s: %q: %d of %d bytes, %v", name, accept, size, plain.Body.Len(), rec.Header())
			}
			if again := f.do("GET", target, "", "Accept-Encoding", accept, "If-None-Match", tag); again.Code != http.StatusNotModified {
				t.Errorf("%s: %q: %d for the same tag", name, accept, again.Code)
			}
		}
		if rec := f.do("GET", "/api/v1/errors/NOT_FOUND", "", "Accept-Encoding", "gzip"); rec.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s: a tiny body is packed", name)
		}
	}
}

// TestStreamsAreNotCompressed: each event has to leave at once.
func TestStreamsAreNotCompressed(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) {
		o.Mounts = map[string]http.Handler{"/api/v1/events": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: "+strings.Repeat("x", 4000)+"\n\n")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		})}
	})
	rec := f.do("GET", "/api/v1/events", "", "Accept-Encoding", "gzip, zstd")
	if rec.Header().Get("Content-Encoding") != "" || !rec.Flushed {
		t.Errorf("%v, flushed %v", rec.Header(), rec.Flushed)
	}
}

func TestResponsesConfig(t *testing.T) {
	t.Parallel()
	if (ResponsesConfig{MaxAge: -1}).Validate() == nil || (ResponsesConfig{MaxBytes: 1 << 50}).Validate() == nil || (ResponsesConfig{}).Validate() != nil {
		t.Error("the configuration is not checked")
	}
}
