package api

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"aiops/internal/auth"
	"aiops/internal/model"
)

// TestEveryOperationHasARow holds the table of rights against the document, in
// both directions.
func TestEveryOperationHasARow(t *testing.T) {
	t.Parallel()
	s, err := newServer(newWorld().options())
	must(t, err)
	for _, id := range s.operations {
		if auth.Needs(id) == auth.Denied {
			t.Errorf("%s has no row in the table of rights (internal/auth/table.go)", id)
		}
	}
	for _, row := range auth.Operations() {
		mount, topic := strings.HasPrefix(row, "/"), strings.HasPrefix(row, "follow-")
		if !mount && !topic && !slices.Contains(s.operations, row) {
			t.Errorf("the table of rights has a row for %s, which is no operation", row)
		}
	}
	// The control: what has no row is denied, and a mount without one is an error.
	if auth.Permits(model.RoleAdmin, "unheard-of") {
		t.Error("an operation without a row is permitted")
	}
	opts := newWorld().options()
	opts.Mounts = map[string]http.Handler{"/unheard": http.NotFoundHandler()}
	if _, err := newServer(opts); err == nil {
		t.Error("a mount without a row is served")
	}
}

// TestRights sends each operation of the document without a credential, with
// wrong ones and as each role, and compares with the table.
func TestRights(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions, func(o *Options) {
		o.Auth = fakeAuth{world: o.Live.(*world), strict: true}
		o.Metrics, o.Reload = http.HandlerFunc(plainMetrics), reloadOK
	})
	doc := documentOf(t, f)
	for _, d := range operationsOf(doc) {
		id := d.op["operationId"].(string)
		g := &generator{rng: rand.New(rand.NewPCG(3, 3)), s: schemas{doc}, d: d}
		target := g.target(false)
		send := func(headers ...string) *httptest.ResponseRecorder {
			f.world.reset()
			text, contentType := g.body(0)
			return f.do(d.method, target, text, append([]string{"Content-Type", contentType}, headers...)...)
		}
		open := auth.Needs(id) == auth.Open
		if security, ok := d.op["security"].([]any); open != (!ok || len(security) == 0) {
			t.Errorf("%s: the document says %v of security", id, d.op["security"])
		}
		for _, bad := range [][]string{nil, {"Authorization", "Bearer made-up"}, {"Authorization", "Basic YWRtaW46YWRtaW4="}, {"Authorization", ""}, {"Cookie", "aiops_session=made-up"}} {
			rec := send(bad...)
			if open && id != "create-session" {
				if rec.Code == http.StatusUnauthorized || rec.Code == http.StatusForbidden {
					t.Errorf("%s is open and answers %d to %v", id, rec.Code, bad)
				}
				continue
			}
			if id == "create-session" {
				continue
			}
			wantProblem(t, rec, http.StatusUnauthorized, CodeUnauthorized)
			if rec.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s does not say how to authenticate", id)
			}
		}
		for _, role := range append(model.Roles(), "nobody") {
			for _, way := range [][]string{{"Authorization", "Bearer " + string(role)}, {"Cookie", "aiops_session=" + string(role)}} {
				rec := send(way...)
				if refused := rec.Code == http.StatusForbidden; refused == (open || auth.Permits(role, id)) {
					t.Errorf("%s as %s: %d %s", id, role, rec.Code, rec.Body.String())
				}
			}
		}
	}
	wantProblem(t, f.do("GET", "/api/v1/detectors", "", "Authorization", "Bearer flood"), http.StatusTooManyRequests, CodeRateLimit)
}

// TestCookieNeedsOurOwnPages sends changes with a session cookie as another
// site would make a browser send them.
func TestCookieNeedsOurOwnPages(t *testing.T) {
	t.Parallel()
	f := setup(t, realDefinitions, func(o *Options) { o.Auth = fakeAuth{world: o.Live.(*world), strict: true} })
	stop := func(headers ...string) *httptest.ResponseRecorder {
		return f.do("POST", "/api/v1/detectors/det_1/stop", "", append([]string{"Cookie", "aiops_session=operator"}, headers...)...)
	}
	for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		wantProblem(t, stop(h...), http.StatusForbidden, CodeForbidden)
	}
	if rec := stop("Sec-Fetch-Site", "same-origin"); rec.Code != http.StatusOK {
		t.Errorf("our own page: %d %s", rec.Code, rec.Body.String())
	}
}

func TestSessionsAndTokens(t *testing.T) {
	t.Parallel()
	f := setup(t, func(o *Options) { o.Auth = fakeAuth{world: o.Live.(*world), strict: true} })
	rec := f.do("POST", "/api/v1/session", `{"token":"operator"}`)
	who := decode[Session](t, rec)
	cookie := rec.Header().Get("Set-Cookie")
	if rec.Code != http.StatusCreated || cookie != "aiops_session=operator; Path=/; HttpOnly; SameSite=Strict" {
		t.Fatalf("signing in: %d %q", rec.Code, cookie)
	}
	if !who.Authentication || who.Role != "operator" || !slices.Contains(who.Operations, "stop-detector") || slices.Contains(who.Operations, "create-token") {
		t.Errorf("who am I: %+v", who)
	}
	rec = f.do("POST", "/api/v1/session", `{"token":"operator"}`, "X-Forwarded-Proto", "https")
	if cookie := rec.Header().Get("Set-Cookie"); cookie != "__Host-aiops_session=operator; Path=/; HttpOnly; Secure; SameSite=Strict" {
		t.Errorf("with TLS: %q", cookie)
	}
	// A cookie that came without TLS is worth nothing with it.
	wantProblem(t, f.do("GET", "/api/v1/session", "", "Cookie", "aiops_session=operator", "X-Forwarded-Proto", "https"), http.StatusUnauthorized, CodeUnauthorized)
	wantProblem(t, f.do("POST", "/api/v1/session", `{"token":"made-up"}`), http.StatusUnauthorized, CodeUnauthorized)
	if who := decode[Session](t, f.do("GET", "/api/v1/session", "", "Cookie", "aiops_session=viewer")); who.Name != "viewer" {
		t.Errorf("who am I: %+v", who)
	}
	rec = f.do("DELETE", "/api/v1/session", "", "Cookie", "aiops_session=viewer")
	if cookie := rec.Header().Get("Set-Cookie"); rec.Code != http.StatusNoContent || !strings.Contains(cookie, "Max-Age=0") {
		t.Errorf("signing out: %d %q", rec.Code, cookie)
	}

	const admin = "Bearer admin"
	rec = f.do("POST", "/api/v1/tokens", `{"name":"grafana","role":"viewer","expires_in":"1h"}`, "Authorization", admin, "Idempotency-Key", "a-key-of-mine")
	if made := decode[NewToken](t, rec); rec.Code != http.StatusCreated || made.Key != exampleKey || made.CreatedBy != "admin" || made.ExpiresAt == nil {
		t.Errorf("making a key: %d %s", rec.Code, rec.Body.String())
	}
	if len(f.world.keys) != 0 {
		t.Error("an answer with a secret is kept for a repetition")
	}
	rec = f.do("GET", "/api/v1/tokens", "", "Authorization", admin)
	if body := rec.Body.String(); strings.Contains(body, "canary") || !strings.Contains(body, `"state":"revoked"`) {
		t.Errorf("the list of keys: %s", body)
	}
	wantProblem(t, f.do("DELETE", "/api/v1/tokens/key_9", "", "Authorization", admin), http.StatusNotFound, CodeNotFound)

	off := setup(t, func(o *Options) { o.Auth = nil })
	if who := decode[Session](t, off.do("GET", "/api/v1/session", "")); who.Authentication || who.Role != "admin" || who.Via != "none" {
		t.Errorf("without authentication: %+v", who)
	}
	wantProblem(t, off.do("POST", "/api/v1/session", `{"token":"x"}`), http.StatusConflict, CodeConflict)
	wantProblem(t, off.do("POST", "/api/v1/tokens", `{"name":"grafana","role":"viewer"}`), http.StatusConflict, CodeConflict)
}
