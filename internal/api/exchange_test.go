package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"aiops/internal/model"
)

func TestConditionalReads(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, target := range []string{"/api/v1/detectors", "/api/v1/detectors/det_1", "/api/v1/anomalies/an_1", "/api/v1/sources", "/api/v1/errors"} {
		rec := f.do("GET", target, "")
		tag := rec.Header().Get("ETag")
		if tag == "" || rec.Header().Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%s: %v", target, rec.Header())
		}
		for _, header := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			rec := f.do("GET", target, "", "If-None-Match", header)
			if rec.Code != http.StatusNotModified || rec.Body.Len() != 0 || rec.Header().Get("ETag") != tag || rec.Header().Get("Content-Type") != "" {
				t.Errorf("%s with %s: %d %v", target, header, rec.Code, rec.Header())
			}
		}
		if rec := f.do("GET", target, "", "If-None-Match", `"other"`); rec.Code != 200 {
			t.Errorf("%s: %d", target, rec.Code)
		}
	}
	tag := f.do("GET", "/api/v1/detectors/det_1", "").Header().Get("ETag")
	if !strings.HasPrefix(tag, `"7.`) {
		t.Fatalf("the tag %s does not begin with the version", tag)
	}
	f.do("POST", "/api/v1/detectors/det_1/stop", "")
	if rec := f.do("GET", "/api/v1/detectors/det_1", "", "If-None-Match", tag); rec.Code != 200 {
		t.Errorf("a changed detector is answered with %d", rec.Code)
	}
	if rec := f.do("GET", "/livez", ""); rec.Header().Get("ETag") != "" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a probe may be cached: %v", rec.Header())
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	const body = `{"name": "once", "query": "x"}`
	first := f.do("POST", "/api/v1/detectors", body, "Idempotency-Key", "key-1")
	again := f.do("POST", "/api/v1/detectors", body, "Idempotency-Key", "key-1")
	if first.Code != 201 || again.Code != 201 || first.Body.String() != again.Body.String() || again.Header().Get("Location") != first.Header().Get("Location") ||
		again.Header().Get("ETag") != first.Header().Get("ETag") || again.Header().Get("Idempotency-Replayed") != "true" || first.Header().Get("Idempotency-Replayed") != "" {
		t.Errorf("first %d %v\nagain %d %v", first.Code, first.Header(), again.Code, again.Header())
	}
	if len(f.world.detectors) != 3 {
		t.Errorf("%d detectors, want 3", len(f.world.detectors))
	}
	wantProblem(t, f.do("POST", "/api/v1/detectors", `{"name": "other", "query": "x"}`, "Idempotency-Key", "key-1"), 422, CodeValidation)
	wantProblem(t, f.do("POST", "/api/v1/detectors/det_1/stop", "", "Idempotency-Key", "key-1"), 422, CodeValidation)
	if rec := f.do("POST", "/api/v1/detectors/validate", body, "Idempotency-Key", "key-1"); rec.Code != 200 {
		t.Errorf("what changes nothing needs no key: %d", rec.Code)
	}
	f.world.keys["anonymous\x00busy"] = &keyRecord{key: model.IdempotencyKey{Principal: "anonymous", Key: "busy", Operation: "POST /api/v1/detectors/det_1/stop", BodyHash: emptyHash}}
	wantProblem(t, f.do("POST", "/api/v1/detectors/det_1/stop", "", "Idempotency-Key", "busy"), 409, CodeConflict)
	f.world.keys["anonymous\x00lost"] = &keyRecord{lost: true, key: model.IdempotencyKey{Principal: "anonymous", Key: "lost", Operation: "POST /api/v1/detectors/det_1/stop", BodyHash: emptyHash}}
	wantProblem(t, f.do("POST", "/api/v1/detectors/det_1/stop", "", "Idempotency-Key", "lost"), 409, CodeConflict)
	for _, bad := range []string{strings.Repeat("k", 256), "tab\there", "ü"} {
		wantProblem(t, f.do("POST", "/api/v1/detectors/det_1/stop", "", "Idempotency-Key", bad), 422, CodeValidation)
	}
	none := setup(t, func(o *Options) { o.Idempotency = nil })
	wantProblem(t, none.do("POST", "/api/v1/detectors/det_1/stop", "", "Idempotency-Key", "k"), 422, CodeValidation)
}

const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// TestFailuresGiveTheKeyBack: what can succeed later must not be answered with
// the old failure.
func TestFailuresGiveTheKeyBack(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	const body = `{"name": "later", "query": "x"}`
	f.world.fail = model.Errorf(model.KindStorageFull, "", "The disk is full.")
	wantProblem(t, f.do("POST", "/api/v1/detectors", body, "Idempotency-Key", "k"), 507, CodeStorageFull)
	f.world.fail = nil
	if rec := f.do("POST", "/api/v1/detectors", body, "Idempotency-Key", "k"); rec.Code != 201 {
		t.Errorf("the second try: %d %s", rec.Code, rec.Body.String())
	}
	panicky := setup(t, func(o *Options) { o.Anomalies = panicAnomalies{o.Anomalies} })
	wantProblem(t, panicky.do("POST", "/api/v1/anomalies/an_1/resolve", "", "Idempotency-Key", "k"), 500, CodeInternal)
	if len(panicky.world.keys) != 0 {
		t.Errorf("a panic keeps the key: %v", panicky.world.keys)
	}
}

type panicAnomalies struct{ AnomalyStore }

func TestParallelRequestsWithOneKey(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 20 {
		wg.Go(func() {
			rec := f.do("POST", "/api/v1/detectors", `{"name": "parallel", "query": "x"}`, "Idempotency-Key", "one")
			mu.Lock()
			defer mu.Unlock()
			statuses[rec.Code]++
		})
	}
	wg.Wait()
	if statuses[201] < 1 || statuses[201]+statuses[409] != 20 || len(f.world.detectors) != 3 {
		t.Errorf("%v, %d detectors", statuses, len(f.world.detectors))
	}
}

func TestBodyGuard(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	deep := strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)
	for _, c := range []struct {
		name, body string
		status     int
		code       Code
		fault      string
		headers    []string
	}{
		{"empty", "", 400, CodeValidation, "required", nil},
		{"blank", "  ", 400, CodeValidation, "json", nil},
		{"no JSON", "{", 400, CodeValidation, "json", nil},
		{"two values", "{} {}", 400, CodeValidation, "trailing_data", nil},
		{"key twice", `{"name": "a", "labels": {"x": "1", "x": "2"}}`, 400, CodeValidation, "duplicate_key", nil},
		{"too deep", deep, 400, CodeValidation, "too_deep", nil},
		{"deep array", strings.Repeat("[", 100_000), 400, CodeValidation, "too_deep", nil},
		{"many keys", manyKeys(), 400, CodeValidation, "too_many", nil},
		{"many values", `{"name": [` + strings.Repeat("1,", maxJSONValues) + `1]}`, 400, CodeValidation, "too_many", nil},
		{"no UTF-8", "{\"name\": \"\xff\"}", 400, CodeValidation, "encoding", nil},
		{"NUL", `{"name": "a\u0000b"}`, 400, CodeValidation, "encoding", nil},
		{"number beyond", `{"name": "a", "query": "x", "false_alarms_per_week": 1e999}`, 400, CodeValidation, "type", nil},
		{"other case", `{"Name": "a", "query": "x"}`, 422, CodeValidation, "required", nil},
		{"no type", `{"name": "a", "query": "x"}`, 415, CodeUnsupportedMediaType, "", []string{"Content-Type", ""}},
		{"merge patch for POST", `{"name": "a", "query": "x"}`, 415, CodeUnsupportedMediaType, "", []string{"Content-Type", "application/merge-patch+json"}},
		{"odd suffix", `{"name": "a", "query": "x"}`, 415, CodeUnsupportedMediaType, "", []string{"Content-Type", "application/x+json"}},
		{"charset", `{"name": "a", "query": "x"}`, 415, CodeUnsupportedMediaType, "", []string{"Content-Type", "application/json; charset=latin1"}},
		{"compressed", `{"name": "a", "query": "x"}`, 415, CodeUnsupportedMediaType, "", []string{"Content-Encoding", "gzip"}},
		{"large", `{"name": "` + strings.Repeat("a", maxBodyBytes) + `"}`, 413, CodePayloadTooLarge, "", nil},
	} {
		p := wantProblem(t, f.do("POST", "/api/v1/detectors", c.body, c.headers...), c.status, c.code)
		if c.fault != "" && (len(p.Errors) == 0 || p.Errors[0].Code != c.fault) {
			t.Errorf("%s: %+v", c.name, p.Errors)
		}
	}
	exact := `{"name": "a", "query": "x"`
	exact += strings.Repeat(" ", maxBodyBytes-len(exact)-1) + "}"
	if rec := f.do("POST", "/api/v1/detectors", exact); rec.Code != 201 {
		t.Errorf("a body of just the limit: %d %s", rec.Code, clip(rec.Body.String(), 300))
	}
	if rec := f.do("POST", "/api/v1/detectors/det_1/stop", strings.Repeat("x", maxBodyBytes+1)); rec.Code != 413 {
		t.Errorf("a large body where none is read: %d", rec.Code)
	}
}

func manyKeys() string {
	var b strings.Builder
	b.WriteString(`{"labels": {`)
	for i := range maxJSONKeys + 1 {
		fmt.Fprintf(&b, `"k%d": "", `, i)
	}
	b.WriteString(`"last": ""}}`)
	return b.String()
}

// TestDeclaredLengthIsCheckedFirst: a body that says it is too large is
// refused without reading any of it; an endless one soon.
func TestDeclaredLengthIsCheckedFirst(t *testing.T) {
	t.Parallel()
	f := setup(t)
	req := httptest.NewRequest("POST", "/api/v1/detectors", failingReader{t})
	req.Host, req.ContentLength = "localhost", maxBodyBytes+1
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, req)
	wantProblem(t, rec, 413, CodePayloadTooLarge)

	endless := &countingReader{text: []byte(`{"name": "`)}
	req = httptest.NewRequest("POST", "/api/v1/detectors", endless)
	req.Host, req.ContentLength = "localhost", -1
	req.Header.Set("Content-Type", "application/json")
	rec = httptest.NewRecorder()
	f.h.ServeHTTP(rec, req)
	wantProblem(t, rec, 413, CodePayloadTooLarge)
	if endless.read > maxBodyBytes+64<<10 {
		t.Errorf("%d bytes were read", endless.read)
	}
}

type failingReader struct{ t *testing.T }

func (r failingReader) Read([]byte) (int, error) {
	r.t.Error("the body is read")
	return 0, io.EOF
}

type countingReader struct {
	text []byte
	read int
}

func (r *countingReader) Read(p []byte) (int, error) {
	for i := range p {
		if r.read < len(r.text) {
			p[i] = r.text[r.read]
		} else {
			p[i] = 'a'
		}
		r.read++
	}
	return len(p), nil
}

// TestLargeBodiesTakeTurns occupies every place for large bodies: another large
// one is refused at once, a small one is served.
func TestLargeBodiesTakeTurns(t *testing.T) {
	t.Parallel()
	s, err := newServer(newWorld().options())
	must(t, err)
	h := s.observe(s.protect(s.router))
	const small = `{"name": "a", "query": "x", "source": "main"}`
	large := small + strings.Repeat(" ", smallBody)
	send := func(body string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("POST", "/api/v1/detectors/validate", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		return rec
	}
	for range maxLargeBodies {
		s.largeBodies <- struct{}{}
	}
	wantProblem(t, send(large), 503, CodeOverloaded)
	if rec := send(small); rec.Code != 200 {
		t.Errorf("a small body: %d %s", rec.Code, rec.Body.String())
	}
	<-s.largeBodies
	for range 3 {
		if rec := send(large); rec.Code != 200 || len(s.largeBodies) != maxLargeBodies-1 {
			t.Errorf("%d, %d places taken", rec.Code, len(s.largeBodies))
		}
	}
}

func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, c := range []struct {
		err    error
		status int
		code   Code
	}{{errors.New("canary: connection reset"), 400, CodeValidation}, {timeoutError{}, 504, CodeTimeout}} {
		req := httptest.NewRequest("POST", "/api/v1/detectors", io.MultiReader(bytes.NewReader([]byte(`{"na`)), brokenReader{c.err}))
		req.Host = "localhost"
		req.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		f.h.ServeHTTP(rec, req)
		wantProblem(t, rec, c.status, c.code)
		if strings.Contains(rec.Body.String(), "canary") {
			t.Errorf("%s", rec.Body.String())
		}
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

type timeoutError struct{}

func (timeoutError) Error() string { return "i/o timeout" }
func (timeoutError) Timeout() bool { return true }

func TestIfMatchVersions(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]string{"": "0", "*": "0", `"7"`: "7", `"7.abcdef"`: "7", `W/"7.abc-gzip"`: "7", ` "7" `: "7",
		"7": "bad", `"x"`: "bad", `"-1"`: "bad", `"0"`: "bad", `"7", "8"`: "bad", `"7`: "bad", `"99999999999999999999"`: "bad"} {
		v, err := Precondition{IfMatch: tag}.version()
		got := fmt.Sprint(v)
		if err != nil {
			got = "bad"
		}
		if got != want || err != nil && model.KindOf(err) != model.KindPrecondition {
			t.Errorf("%q: %s %v, want %s", tag, got, err, want)
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `[1,2,{"a":null}]`, `{"a":1,"a":2}`, `"x`, strings.Repeat("[", 70), `{"a":{"b":[true,false,{"c":"\u0000"}]}}`, "\xff", "1 2", ``, ` {"é":1.5e3} `} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		text, err := checkJSON(bytes.NewReader(in))
		depth, valid := nesting(in)
		if err == nil {
			if !valid || depth > maxJSONDepth || !bytes.Equal(bytes.TrimSpace(text), bytes.TrimSpace(in)) {
				t.Fatalf("accepted %q: valid %v, depth %d, kept %q", in, valid, depth, text)
			}
			return
		}
		var p *Problem
		if !errors.As(err, &p) || p.Status != 400 || len(p.Errors) != 1 || len(p.Errors[0].Pointer) > maxPointer+maxDetail {
			t.Fatalf("%q: %v", in, err)
		}
		if valid && depth <= maxJSONDepth {
			switch p.Errors[0].Code {
			case "duplicate_key", "encoding", "too_many": // valid JSON that is refused all the same
			default:
				t.Fatalf("refused %q: %+v", in, p.Errors[0])
			}
		}
	})
}

func FuzzIfMatch(f *testing.F) {
	for _, seed := range []string{`"7.ab"`, `W/"1"`, "*", "", `"`, `""`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		v, err := Precondition{IfMatch: tag}.version()
		if v < 0 || err != nil && v != 0 {
			t.Fatalf("%q: %d %v", tag, v, err)
		}
	})
}
