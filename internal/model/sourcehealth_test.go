package model

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestJoinHealth(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 8, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		nodes string // host:state[:error], …
		want  string // state: error
	}{
		{"", "unknown: "},
		{"a:up", "up: "},
		{"a:down:refused", "down: refused"},
		{"a:unknown b:unknown", "unknown: "},
		{"a:unknown b:up", "up: "},
		{"a:up b:up", "up: "},
		{"b:up a:down:refused", "degraded: down on node a: refused"},
		{"b:stale a:up", "degraded: stale on node b: no reason is known"},
		{"a:degraded:slow b:up", "degraded: degraded on node a: slow"},
		{"a:degraded:slow b:down:refused", "degraded: degraded on node a: slow; down on node b: refused"},
		{"a:down:refused b:down:refused", "down: refused"},
		{"a:down:refused b:down:timeout", "down: down on node a: refused; down on node b: timeout"},
		{"a:stale:old b:down:refused", "down: stale on node a: old; down on node b: refused"},
		{"a:up a:down:refused", "degraded: down on node a node_1: refused"},
		{"a:up b:down:x c:down:x d:down:x e:down:x f:down:x", "degraded: down on node b: x; down on node c: x; down on node d: x; and on 2 more"},
	} {
		var nodes []NodeHealth
		for i, f := range strings.Fields(c.nodes) {
			parts := strings.SplitN(f+"::", ":", 4)
			since := at.Add(time.Duration(i) * time.Second)
			nodes = append(nodes, NodeHealth{Node: fmt.Sprint("node_", i), Host: parts[0],
				SourceHealth: SourceHealth{State: HealthState(parts[1]), LastError: parts[2], Since: since, CheckedAt: since, Latency: time.Duration(i)}})
		}
		got := JoinHealth(nodes)
		if text := fmt.Sprintf("%s: %s", got.State, got.LastError); text != c.want {
			t.Errorf("%q is %q, want %q", c.nodes, text, c.want)
		}
		if n := len(nodes); got.State != SourceUnknown && (!got.Since.Equal(nodes[n-1].Since) || !got.CheckedAt.Equal(nodes[n-1].CheckedAt) || got.Latency != time.Duration(n-1)) {
			t.Errorf("%q: %+v", c.nodes, got)
		}
	}
}
