package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"aiops/internal/testkit"
)

// TestTwoNodesShareDecisionsOnPatterns runs two programs on one PostgreSQL. What
// people decide about a pattern on one is in force on the other, which took
// other lines of it, and on a third that took none.
func TestTwoNodesShareDecisionsOnPatterns(t *testing.T) {
	t.Parallel()
	postgres := testkit.RequirePostgres(t)
	url, err := postgres.CreateDatabase("decisions")
	if err != nil {
		t.Fatal(err)
	}
	config := configured(t, fmt.Sprintf("storage: {postgres: {url: %q}, master_key: \"a key of at least 32 characters, shared\"}\nbuiltin: {host: {disabled: true}}\n", url))
	a := start(t, t.TempDir(), "serve", config...)
	b := start(t, t.TempDir(), "serve", config...)
	type pattern struct {
		ID, Name, Severity string
		Pinned             bool
		Count              int
	}
	push := func(s *server, line string) {
		t.Helper()
		body := fmt.Sprintf(`{"streams":[{"stream":{"service":"shop"},"values":[["%d",%q]]}]}`, time.Now().UnixNano(), line)
		if status, answer := s.post("/loki/api/v1/push", "application/json", body); status != http.StatusNoContent {
			t.Fatalf("pushing a line gave %d %s", status, answer)
		}
	}
	list := func(s *server) []pattern {
		t.Helper()
		var page struct{ Items []pattern }
		s.json(http.MethodGet, "/api/v1/logs/patterns?q=payment", nil, &page)
		return page.Items
	}
	push(a, "payment 17 of order 4 took 3 ms")
	push(b, "payment 99 of order 12 took 80 ms")
	onA, onB := list(a), list(b)
	if len(onA) != 1 || len(onB) != 1 || onA[0].ID != onB[0].ID || onB[0].Name != "" {
		t.Fatalf("before, the patterns are %+v and %+v", onA, onB)
	}
	a.json(http.MethodPatch, "/api/v1/logs/patterns/"+onA[0].ID, map[string]any{"name": "payments", "pinned": true, "severity": "critical"}, nil)
	want := pattern{ID: onA[0].ID, Name: "payments", Severity: "critical", Pinned: true, Count: 1}
	b.eventually(30*time.Second, "the decision is in force on b", func() error {
		if got := list(b); len(got) != 1 || got[0] != want {
			return fmt.Errorf("b has %+v, want %+v", got, want)
		}
		return nil
	})
	c := start(t, t.TempDir(), "serve", config...)
	if got := list(c); len(got) != 1 || got[0].Name != "payments" {
		t.Errorf("a new node has %+v", got)
	}
}
