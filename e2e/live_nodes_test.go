package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver of a test that disturbs the database

	"aiops/client"
	"aiops/internal/testkit"
)

// configured writes a configuration file and returns the flags that name it.
func configured(t *testing.T, text string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "aiops.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--config", file}
}

// following hands on the events of topics until ctx ends; the error of Follow
// comes last.
func following(ctx context.Context, o client.LiveOptions) (<-chan client.LiveEvent, <-chan error) {
	events, ended := make(chan client.LiveEvent, 10_000), make(chan error, 1)
	go func() {
		ended <- client.Follow(ctx, o, func(m client.LiveMessage) error {
			if m.Event == nil {
				return fmt.Errorf("unexpected message %+v", m)
			}
			events <- *m.Event
			return nil
		})
	}()
	return events, ended
}

// TestTwoNodesDeliverEachOthersEvents runs two programs on one PostgreSQL. What
// happens on either reaches the clients of both, in one order, also while the
// database's announcements get lost.
func TestTwoNodesDeliverEachOthersEvents(t *testing.T) {
	t.Parallel()
	postgres := testkit.RequirePostgres(t)
	url, err := postgres.CreateDatabase("nodes")
	if err != nil {
		t.Fatal(err)
	}
	config := configured(t, fmt.Sprintf("storage: {postgres: {url: %q}, master_key: \"a key of at least 32 characters, shared\"}\nbuiltin: {host: {disabled: true}}\n", url))
	a := start(t, t.TempDir(), "serve", config...)
	b := start(t, t.TempDir(), "serve", config...)
	nodes := []*server{a, b}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var streams []<-chan client.LiveEvent
	for _, n := range nodes {
		events, _ := following(ctx, client.LiveOptions{URL: n.url, Topics: []string{"detectors"}, Since: new(int64)})
		streams = append(streams, events)
	}
	made := 0
	detector := func(n *server) {
		made++
		n.json(http.MethodPost, "/api/v1/detectors", map[string]any{"name": fmt.Sprintf("detector %d", made), "query": "up", "step": "30s"}, nil)
	}
	seen := map[int][]int64{}
	// arrive waits until both have told of every detector that was made.
	arrive := func(what string) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for i, events := range streams {
			for created := 0; created < made; {
				select {
				case e := <-events:
					if e.Type != "detector.created" {
						continue
					}
					if ids := seen[i]; len(ids) > 0 && e.ID <= ids[len(ids)-1] {
						t.Fatalf("%s: event %d follows %v", what, e.ID, ids)
					}
					seen[i] = append(seen[i], e.ID)
				case <-limit:
					t.Fatalf("%s: node %d told of %d of %d", what, i, len(seen[i]), made)
				}
				created = len(seen[i])
			}
		}
		if fmt.Sprint(seen[0]) != fmt.Sprint(seen[1]) {
			t.Errorf("%s: the nodes told %v and %v", what, seen[0], seen[1])
		}
	}
	for range 5 {
		detector(a)
		detector(b)
	}
	arrive("with announcements")

	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	deaf := 0
	for range 5 {
		// Whoever listens is cut off before it can hear.
		rows, err := db.ExecContext(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'listen %' AND datname = current_database()`)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := rows.RowsAffected()
		deaf += int(n)
		detector(a)
		detector(b)
	}
	if deaf == 0 {
		t.Error("nobody listened: the test shows nothing")
	}
	arrive("without announcements")
}

// command runs the program to its end.
func command(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestAuthentication makes keys for a program that runs, uses them in every way
// and revokes one.
func TestAuthentication(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, text, code := command(t, nil, "serve", "--listen", "0.0.0.0:0", "--data-dir", t.TempDir()); code != 2 || !strings.Contains(text, "auth: {enabled: true}") {
		t.Errorf("on every address without authentication: exit %d\n%s", code, text)
	}
	s := start(t, dir, "serve", configured(t, "auth: {enabled: true}\nbuiltin: {host: {disabled: true}}\n")...)
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/startupz": 200, "/": 200, "/api/openapi.json": 200,
		"/api/v1/detectors": 401, "/health": 401, "/metrics": 401, "/api/v1/session": 401, "/api/v1/events": 401, "/api/v1/ws/clients": 401, "/prometheus/api/v1/query?query=up": 401} {
		if status, body := s.get(path); status != want {
			t.Errorf("%s without a key: %d, want %d\n%s", path, status, want, body)
		}
	}
	key := func(name, role string) string {
		t.Helper()
		out, text, code := command(t, []string{"AIOPS_TOKEN="}, "token", "create", "--data-dir", dir, "--name", name, "--role", role)
		if code != 0 || !strings.HasPrefix(out, "aiops_") {
			t.Fatalf("making a key: exit %d\n%s", code, text)
		}
		return strings.TrimSpace(out)
	}
	admin, viewer := key("me", "admin"), key("screen", "viewer")
	as := func(key, method, path, body string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return response.StatusCode, response.Header.Get("Set-Cookie")
	}
	for _, c := range []struct {
		key, method, path, body string
		want                    int
	}{
		{viewer, "GET", "/api/v1/detectors", "", 200}, {viewer, "GET", "/api/v1/ws/clients", "", 403}, {viewer, "POST", "/-/reload", "", 403},
		{viewer, "POST", "/api/v1/detectors", `{"name":"a","query":"up"}`, 403}, {viewer, "GET", "/prometheus/api/v1/query?query=up", "", 200},
		{admin, "GET", "/api/v1/ws/clients", "", 200}, {admin, "GET", "/api/v1/tokens", "", 200}, {viewer + "a", "GET", "/api/v1/detectors", "", 401},
	} {
		if status, _ := as(c.key, c.method, c.path, c.body); status != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, status, c.want)
		}
	}
	if status, cookie := as("", "POST", "/api/v1/session", fmt.Sprintf(`{"token":%q}`, viewer)); status != 201 || !strings.Contains(cookie, "HttpOnly; SameSite=Strict") {
		t.Errorf("signing in: %d %q", status, cookie)
	}

	connected := make(chan struct{}, 1)
	_, ended := following(t.Context(), client.LiveOptions{URL: s.url, Token: viewer, Topics: []string{"anomalies"}, OnState: func(st client.LiveState) {
		if st.Connected {
			connected <- struct{}{}
		}
	}})
	select {
	case <-connected:
	case <-time.After(20 * time.Second):
		t.Fatal("the stream does not begin")
	}
	list, _, _ := command(t, []string{"AIOPS_TOKEN=" + admin}, "token", "list", "--data-dir", dir)
	var id string
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == "screen" {
			id = fields[0]
		}
	}
	if _, text, code := command(t, []string{"AIOPS_TOKEN=" + viewer}, "token", "revoke", "--data-dir", dir, id); code != 1 {
		t.Errorf("a viewer revokes a key: exit %d\n%s", code, text)
	}
	began := time.Now()
	if _, text, code := command(t, []string{"AIOPS_TOKEN=" + admin}, "token", "revoke", "--data-dir", dir, id); code != 0 {
		t.Fatalf("revoking %q: exit %d\n%s\n%s", id, code, text, list)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, client.ErrLiveUnauthorized) {
			t.Errorf("the stream of a revoked key ended with %v", err)
		}
		t.Logf("the stream of a revoked key ended after %s", time.Since(began).Round(time.Millisecond))
	case <-time.After(15 * time.Second): // 5 s are promised, to a machine that is not loaded
		t.Error("the stream of a revoked key goes on")
	}
	if status, _ := as(viewer, "GET", "/api/v1/detectors", ""); status != 401 {
		t.Errorf("a revoked key: %d", status)
	}
	if code := s.terminate(30 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "local.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the key of local commands is left behind: %v", err)
	}
	if out, text, code := command(t, nil, "token", "list", "--data-dir", dir); code != 0 || !strings.Contains(out, "revoked") {
		t.Errorf("listing keys of a program that is stopped: exit %d %s %s", code, out, text)
	}
}
