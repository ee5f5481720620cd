package app

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"aiops/internal/config"
	"aiops/internal/model"
)

// provisionTable is what nodes share, as one of them sees it.
type provisionTable struct {
	*provisionRows
	node string
}

type provisionRows struct {
	rows      []model.Provision
	detectors map[string]model.Detector
	at        int64
}

func (s provisionTable) Fingerprint(b []byte) string { return string(b) }

func (s provisionTable) Provisions(context.Context) ([]model.Provision, error) {
	out := slices.Clone(s.rows)
	for i := range out {
		out[i].Mine = out[i].Node == s.node
	}
	slices.SortFunc(out, func(a, b model.Provision) int { return cmp.Compare(b.AppliedAt.UnixMilli(), a.AppliedAt.UnixMilli()) })
	return out, nil
}

func (s provisionTable) SaveProvision(_ context.Context, _, print string) error {
	s.provisionRows.rows = slices.DeleteFunc(s.rows, func(p model.Provision) bool { return p.Node == s.node })
	s.at++
	s.provisionRows.rows = append(s.provisionRows.rows, model.Provision{Node: s.node, Host: s.node, Print: print, Live: true, AppliedAt: time.UnixMilli(s.at)})
	return nil
}

func (s provisionTable) Sources(context.Context) ([]model.Source, error) { return nil, nil }
func (s provisionTable) SetSourceHealth(context.Context, string, model.SourceHealth) error {
	return nil
}
func (s provisionTable) NodesSourceHealth(context.Context) (map[string][]model.NodeHealth, error) {
	return nil, nil
}
func (s provisionTable) Node() (name, instance string) { return s.node, s.node }
func (s provisionTable) CreateSource(_ context.Context, src model.Source) (model.Source, error) {
	return src, nil
}
func (s provisionTable) UpdateSource(_ context.Context, src model.Source, _ int64) (model.Source, error) {
	return src, nil
}
func (s provisionTable) DeleteSource(context.Context, string, int64) error { return nil }

func (s provisionTable) AllDetectors(context.Context) ([]model.Detector, error) {
	var out []model.Detector
	for _, d := range s.detectors {
		out = append(out, d)
	}
	return out, nil
}
func (s provisionTable) CreateDetector(_ context.Context, d model.Detector) (model.Detector, error) {
	d.ID = d.Name
	s.detectors[d.Name] = d
	return d, nil
}
func (s provisionTable) UpdateDetector(_ context.Context, d model.Detector, _ int64, _ model.EventType) (model.Detector, error) {
	s.detectors[d.Name] = d
	return d, nil
}
func (s provisionTable) DeleteDetector(_ context.Context, id string, _ int64) error {
	delete(s.detectors, id)
	return nil
}

// TestNodesWithDifferentFiles starts nodes with files that differ: what is new
// wins once, and nodes that only start again leave it alone.
func TestNodesWithDifferentFiles(t *testing.T) {
	t.Parallel()
	shared := &provisionRows{detectors: map[string]model.Detector{}}
	for _, c := range []struct {
		what, node, file string
		asked            bool
		force            string // what is in force afterwards
		warned           string // part of what is said, "" for nothing
	}{
		{"the first start", "a", "one", false, "one", ""},
		{"another node with the same file", "b", "one", false, "one", ""},
		{"a new file", "b", "two", false, "two", "other nodes run with other definitions"},
		{"the other one starts again", "a", "one", false, "two", "those of another node's file"},
		{"and again", "a", "one", false, "two", "those of another node's file"},
		{"it is reloaded", "a", "one", true, "one", "other nodes run with other definitions"},
		{"now the second is behind", "b", "two", false, "one", "those of another node's file"},
		{"it gets the file of the first", "b", "one", false, "one", ""},
		{"both get a new one, one by one", "a", "three", false, "three", "other nodes run with other definitions"},
		{"the second too", "b", "three", false, "three", ""},
		{"back to an earlier file", "a", "two", false, "two", "other nodes run with other definitions"},
		{"a node that is new", "c", "one", false, "one", "nodes=a,b"},
	} {
		var log strings.Builder
		p := newProvisioner(provisionTable{shared, c.node}, true, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil)))
		file := config.Config{Detectors: []config.Detector{{Name: c.file, Query: "up", Step: model.Duration(time.Minute)}}}
		if err := p.apply(t.Context(), file, c.asked); err != nil {
			t.Fatal(err)
		}
		if _, ok := shared.detectors[c.force]; !ok || len(shared.detectors) != 1 {
			t.Errorf("%s: in force are %v", c.what, shared.detectors)
		}
		warnings := strings.Count(log.String(), "level=WARN")
		if text := strings.ReplaceAll(log.String(), `"a, b"`, "a,b"); c.warned == "" && warnings != 0 || c.warned != "" && (warnings != 1 || !strings.Contains(text, c.warned)) {
			t.Errorf("%s: said\n%s", c.what, log.String())
		}
		if err := p.check(t.Context()); err != nil {
			t.Fatal(err)
		}
		if behind := testutil.ToFloat64(p.behind) == 1; behind != (c.file != c.force) {
			t.Errorf("%s: behind is %v", c.what, behind)
		}
	}
	// A node that runs hears of it, once.
	var log strings.Builder
	p := newProvisioner(provisionTable{shared, "a"}, true, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, nil)))
	p.print = "other"
	for range 3 {
		if err := p.check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("said\n%s", log.String())
	}
}

// TestDefinitionsTellSecretsApart changes nothing but a password.
func TestDefinitionsTellSecretsApart(t *testing.T) {
	t.Parallel()
	var prints []string
	for _, password := range []model.Secret{"one", "two"} {
		var s config.Source
		s.Name, s.Type, s.Username, s.Password = "main", model.SourcePrometheus, "me", password
		b, err := definitions(config.Config{Sources: []config.Source{s}})
		if err != nil {
			t.Fatal(err)
		}
		prints = append(prints, string(b))
	}
	if prints[0] == prints[1] {
		t.Errorf("the same: %s", prints[0])
	}
}
