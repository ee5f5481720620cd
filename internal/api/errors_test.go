package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
)

// reach produces each code by a request as a client would send it. The
// statuses other than the first are reached by rows of their own.
var reach = []struct {
	code   Code
	status int
	fail   error // of the store and the engine
	method string
	target string
	body   string
	header []string
}{
	{code: CodeValidation, status: 422, method: "GET", target: "/api/v1/detectors?limit=0"},
	{code: CodeValidation, status: 400, method: "POST", target: "/api/v1/detectors", body: `{"name":`},
	{code: CodeUnauthorized, status: 401, fail: model.Errorf(model.KindUnauthorized, "", "Sign in.")},
	{code: CodeForbidden, status: 403, method: "POST", target: "/api/v1/detectors/det_1/stop", header: []string{"Sec-Fetch-Site", "cross-site"}},
	{code: CodeForbidden, status: 403, fail: model.Errorf(model.KindForbidden, "", "Not yours.")},
	{code: CodeNotFound, status: 404, method: "GET", target: "/api/v1/anomalies/none"},
	{code: CodeMethodNotAllowed, status: 405, method: "DELETE", target: "/api/v1/errors"},
	{code: CodeConflict, status: 409, method: "POST", target: "/api/v1/tasks/task_2/cancel"},
	{code: CodePreconditionFailed, status: 412, method: "DELETE", target: "/api/v1/detectors/det_1", header: []string{"If-Match", `"6"`}},
	{code: CodePayloadTooLarge, status: 413, method: "POST", target: "/api/v1/detectors", body: `{"name": "` + strings.Repeat("x", maxBodyBytes) + `"}`},
	{code: CodePayloadTooLarge, status: 413, fail: model.Errorf(model.KindTooLarge, "", "Too much.")},
	{code: CodePayloadTooLarge, status: 413, fail: &http.MaxBytesError{Limit: 1}},
	{code: CodeUnsupportedMediaType, status: 415, method: "POST", target: "/api/v1/detectors", body: `name=x`, header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
	{code: CodeInternal, status: 500, fail: errors.New("pq: relation canary does not exist")},
	{code: CodeInternal, status: 500, fail: model.Errorf(model.KindInternal, "", "canary")},
	{code: CodeServiceUnavailable, status: 503, fail: model.Errorf(model.KindUnavailable, "", "Starting.")},
	{code: CodeServiceUnavailable, status: 503, fail: model.Errorf(model.KindSourceUnavailable, model.SubjectSource, "It does not answer.")},
	{code: CodeOverloaded, status: 503, fail: &model.Error{Kind: model.KindOverloaded, Message: "Too busy.", RetryAfter: 1500 * time.Millisecond}},
	{code: CodePrometheus, status: 503, fail: model.Errorf(model.KindSourceUnavailable, model.SubjectPrometheus, "It does not answer.")},
	{code: CodeLoki, status: 503, fail: model.Errorf(model.KindSourceUnavailable, model.SubjectLoki, "It does not answer.")},
	{code: CodeSourceAuth, status: 502, fail: model.Errorf(model.KindSourceAuth, model.SubjectPrometheus, "It refuses the token.")},
	{code: CodeQuery, status: 400, method: "POST", target: "/api/v1/sources/src_main/query", body: `{"query":"sum(("}`},
	{code: CodeDetectorNotFound, status: 404, method: "GET", target: "/api/v1/detectors/none"},
	{code: CodeDetectorConflict, status: 409, method: "DELETE", target: "/api/v1/detectors/det_file"},
	{code: CodeDetectorTraining, status: 500, fail: model.Errorf(model.KindTraining, model.SubjectDetector, "It did not converge.")},
	{code: CodeDetectorTraining, status: 422, fail: model.Errorf(model.KindTooLittleData, model.SubjectDetector, "12 samples of 100.")},
	{code: CodeDetectorRuntime, status: 500, fail: model.Errorf(model.KindDetectorRuntime, model.SubjectDetector, "It broke.")},
	{code: CodeDatabase, status: 500, fail: model.WrapError(model.KindDatabase, "", errors.New("canary: /var/lib/secret.db is locked"), "canary")},
	{code: CodeStorageFull, status: 507, fail: model.Errorf(model.KindStorageFull, "", "The disk is full.")},
	{code: CodeNetwork, status: 502, fail: model.Errorf(model.KindNetwork, "", "The connection broke.")},
	{code: CodeTimeout, status: 504, fail: fmt.Errorf("querying canary: %w", context.DeadlineExceeded)},
	{code: CodeTimeout, status: 504, fail: model.Errorf(model.KindTimeout, "", "It took too long.")},
	{code: CodeActionRefused, status: 409, fail: model.Errorf(model.KindActionRefused, "", "A freeze is on.")},
}

// TestEveryCodeIsReachable gets each code of the table, with each of its
// statuses, out of the server. Codes that only middleware before the
// operations sends are reached through WriteProblem, as it does.
func TestEveryCodeIsReachable(t *testing.T) {
	t.Parallel()
	reached := map[string]bool{}
	for _, c := range reach {
		f := setup(t)
		f.world.fail = c.fail
		if c.method == "" {
			c.method, c.target = "GET", "/api/v1/detectors/det_1/replay"
		}
		rec := f.do(c.method, c.target, c.body, c.header...)
		p := wantProblem(t, rec, c.status, c.code)
		if strings.Contains(rec.Body.String(), "canary") {
			t.Errorf("%s tells internals: %s", c.code, rec.Body.String())
		}
		if c.code == CodeOverloaded && (p.RetryAfterMS != 1500 || rec.Header().Get("Retry-After") != "2") {
			t.Errorf("the error's own time to wait is lost: %d ms, header %q", p.RetryAfterMS, rec.Header().Get("Retry-After"))
		}
		reached[fmt.Sprint(c.code, c.status)] = true
	}
	limited := httptest.NewRecorder()
	s, err := newServer(newWorld().options())
	must(t, err)
	s.observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		WriteProblem(w, r, CodeRateLimit, "", 3*time.Second)
	})).ServeHTTP(limited, httptest.NewRequest("GET", "/api/v1/detectors", nil))
	wantProblem(t, limited, http.StatusTooManyRequests, CodeRateLimit)
	if limited.Header().Get("Retry-After") != "3" {
		t.Errorf("Retry-After %q", limited.Header().Get("Retry-After"))
	}
	reached[fmt.Sprint(CodeRateLimit, 429)] = true

	for _, row := range Errors() {
		if !reached[fmt.Sprint(row.Code, row.Status)] {
			t.Errorf("%s is not reached with %d", row.Code, row.Status)
		}
		if row.AltStatus != 0 && !reached[fmt.Sprint(row.Code, row.AltStatus)] {
			t.Errorf("%s is not reached with %d", row.Code, row.AltStatus)
		}
	}
}

// TestErrorTable checks the table against the contract, value by value.
func TestErrorTable(t *testing.T) {
	t.Parallel()
	want := map[Code]string{
		"VALIDATION_ERROR": "422 no 400", "UNAUTHORIZED": "401 no", "FORBIDDEN": "403 no", "NOT_FOUND": "404 no", "METHOD_NOT_ALLOWED": "405 no",
		"CONFLICT": "409 no", "PRECONDITION_FAILED": "412 no", "PAYLOAD_TOO_LARGE": "413 no", "UNSUPPORTED_MEDIA_TYPE": "415 no", "RATE_LIMIT": "429 yes",
		"INTERNAL_ERROR": "500 no", "SERVICE_UNAVAILABLE": "503 yes", "OVERLOADED": "503 yes", "PROMETHEUS_UNAVAILABLE": "503 yes", "LOKI_UNAVAILABLE": "503 yes",
		"DATA_SOURCE_AUTH_ERROR": "502 no", "QUERY_ERROR": "400 no", "DETECTOR_NOT_FOUND": "404 no", "DETECTOR_CONFLICT": "409 no",
		"DETECTOR_TRAINING_ERROR": "500 no 422", "DETECTOR_RUNTIME_ERROR": "500 yes", "DATABASE_ERROR": "500 yes", "STORAGE_FULL": "507 yes",
		"NETWORK_ERROR": "502 yes", "TIMEOUT": "504 yes", "ACTION_REFUSED": "409 no",
	}
	if len(want) != len(Errors()) {
		t.Errorf("%d codes, want %d", len(Errors()), len(want))
	}
	seen := map[Code]bool{}
	for _, row := range Errors() {
		got := fmt.Sprintf("%d %s", row.Status, yesNo(row.Retryable))
		if row.AltStatus != 0 {
			got += fmt.Sprint(" ", row.AltStatus)
		}
		if got != want[row.Code] || seen[row.Code] {
			t.Errorf("%s: %q, want %q once", row.Code, got, want[row.Code])
		}
		seen[row.Code] = true
		if row.Title == "" || row.Meaning == "" || row.Action == "" || row.Retryable != (row.RetryAfter > 0) {
			t.Errorf("%s is incomplete", row.Code)
		}
	}
}

// TestEveryKindHasACode fails when a kind of error is added without a mapping.
func TestEveryKindHasACode(t *testing.T) {
	t.Parallel()
	kinds := []model.Kind{model.KindInvalid, model.KindNotFound, model.KindConflict, model.KindPrecondition, model.KindTooLarge, model.KindUnauthorized,
		model.KindForbidden, model.KindUnavailable, model.KindOverloaded, model.KindTimeout, model.KindNetwork, model.KindSourceUnavailable, model.KindSourceAuth,
		model.KindQuery, model.KindTooLittleData, model.KindTraining, model.KindDetectorRuntime, model.KindDatabase, model.KindStorageFull, model.KindActionRefused}
	for _, k := range kinds {
		if code, _ := codeOf(model.Errorf(k, "", "x")); code == CodeInternal {
			t.Errorf("kind %q is an internal error", k)
		}
	}
	if code, status := codeOf(model.Errorf("unheard of", "", "x")); code != CodeInternal || status != 500 {
		t.Errorf("an unknown kind is %s %d", code, status)
	}
}

// Whether a failure can be overcome by waiting is said once, by its kind: the
// table of errors and what we repeat towards others agree.
func TestRetryableFollowsFromTheKind(t *testing.T) {
	t.Parallel()
	check := func(kind model.Kind, code Code) {
		t.Helper()
		if row, ok := LookupError(code); !ok || row.Retryable != kind.Transient() {
			t.Errorf("kind %q is transient: %t; %s is retryable: %t", kind, kind.Transient(), code, row.Retryable)
		}
	}
	for kind, code := range kindCodes {
		check(kind, code)
	}
	for kind, codes := range subjectCodes {
		for _, code := range codes {
			check(kind, code)
		}
	}
}

func TestErrorCatalogue(t *testing.T) {
	t.Parallel()
	f := setup(t)
	all := decode[struct{ Items []ErrorCode }](t, f.do("GET", "/api/v1/errors", ""))
	if !slices.EqualFunc(all.Items, Errors(), func(a, b ErrorCode) bool { return a.Code == b.Code && a.Action == b.Action }) {
		t.Fatal("the catalogue differs from the table")
	}
	for _, row := range all.Items {
		rec := f.do("GET", errorsPath+string(row.Code), "")
		if one := decode[ErrorCode](t, rec); rec.Code != http.StatusOK || one.Code != row.Code {
			t.Errorf("%s: %d %s", row.Code, rec.Code, rec.Body.String())
		}
	}
	wantProblem(t, f.do("GET", errorsPath+"NOPE", ""), http.StatusNotFound, CodeNotFound)
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions)
	rec := f.do("POST", "/api/v1/detectors", `{"nme": "x", "query": 5, "step": "soon", "for": "99999999999h", "model": "crystal ball", "source": "nowhere",
		"false_alarms_per_week": 1, "sensitivity": "low", "min_deviation": {"relative": -1}, "direction": "sideways"}`)
	p := wantProblem(t, rec, 422, CodeValidation)
	got := map[string]string{}
	for _, e := range p.Errors {
		if got[e.Pointer] != "" || e.In != "body" {
			t.Errorf("%+v is told twice or is not of the body", e)
		}
		got[e.Pointer] = e.Code
	}
	for pointer, code := range map[string]string{"/name": "required", "/nme": "unknown_field", "/query": "type", "/step": "format", "/for": "duration", "/model": "unknown_model",
		"/source": "unknown_source", "/sensitivity": "one_of", "/min_deviation/relative": "out_of_range", "/direction": "not_allowed"} {
		if got[pointer] != code {
			t.Errorf("%s: code %q, want %q", pointer, got[pointer], code)
		}
	}
	p = wantProblem(t, f.do("GET", "/api/v1/detectors?limit=x&enabled=maybe&lmit=3&sort=name&sort=-name", ""), 422, CodeValidation)
	if len(p.Errors) != 4 {
		t.Errorf("faults of parameters: %+v", p.Errors)
	}
	for _, e := range p.Errors {
		if e.In != "query" {
			t.Errorf("%+v is not of the query", e)
		}
	}
}

func TestSubmittedValuesAreNotEchoed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	rec := f.do("POST", "/api/v1/sources", `{"name": "x", "type": "prometheus", "url": "http://x", "auth": {"password": ["hunter2"], "bearer_token": 5, "username": {"a": "hunter2"}}, "headers": {"A": {"v": "hunter2"}}}`)
	p := wantProblem(t, rec, 422, CodeValidation)
	if len(p.Errors) < 3 || strings.Contains(rec.Body.String(), "hunter2") {
		t.Errorf("the answer echoes what was sent: %s", rec.Body.String())
	}
}

func TestPointers(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]string{"body": "body ", "body.a.b": "body /a/b", "body.items[3].tags": "body /items/3/tags", "body.a/b~c": "body /a~1b~0c",
		"query.limit": "query /limit", "path.id": "path /id", "header.If-Match": "header /If-Match", "query.a.b": "query /a.b", "elsewhere": "body /elsewhere"} {
		in, pointer := pointerOf(location)
		if got := in + " " + pointer; got != want {
			t.Errorf("%s: %q, want %q", location, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		n    int
		want string
	}{{"short", 10, "short"}, {"exactly10!", 10, "exactly10!"}, {"longer than ten", 10, "longer …"}, {"äääääää", 10, "äää…"}} {
		if got := clip(c.in, c.n); got != c.want || len(got) > c.n {
			t.Errorf("clip(%q, %d) = %q, want %q", c.in, c.n, got, c.want)
		}
	}
}
