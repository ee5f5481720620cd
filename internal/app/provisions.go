package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/pipeline"
)

// Nodes that share a database are given the same file. When one is not, its
// definitions would undo those of the others at each of its starts, and theirs
// its own. So a set of definitions is applied when it is new to the node, or in
// force anyway, or when a person reloads the file; a node that only starts again
// leaves alone what another node has applied since.

// provisionsStore is where nodes keep which definitions they applied.
type provisionsStore interface {
	provisionStore
	Fingerprint(b []byte) string
	Provisions(ctx context.Context) ([]model.Provision, error)
	SaveProvision(ctx context.Context, host, print string) error
}

// provisioner applies the definitions of this node's file among those of others.
type provisioner struct {
	store  provisionsStore
	shared bool // other nodes may share the database
	log    *slog.Logger
	behind prometheus.Gauge

	mu     sync.Mutex
	print  string // of the definitions of this node's file
	warned string // what is in force instead, as it was said last
}

func newProvisioner(s provisionsStore, shared bool, r prometheus.Registerer, log *slog.Logger) *provisioner {
	p := &provisioner{store: s, shared: shared, log: log, behind: prometheus.NewGauge(prometheus.GaugeOpts{Name: "aiops_app_definitions_superseded",
		Help: "1 while other definitions than those of this node's configuration file are in force, because another node applied its own later."})}
	r.MustRegister(p.behind)
	return p
}

// apply makes the stored definitions equal to the file, unless another node has
// applied other ones since this one did and nobody asked for it. It has to run
// while no other node does.
func (p *provisioner) apply(ctx context.Context, c config.Config, asked bool) error {
	if !p.shared {
		return provision(ctx, p.store, c, p.log)
	}
	b, err := definitions(c)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print = p.store.Fingerprint(b)
	known, err := p.store.Provisions(ctx)
	if err != nil {
		return err
	}
	if !asked && superseded(known, p.print) {
		p.tell(known)
		return nil
	}
	if hosts := others(known, p.print); len(hosts) > 0 {
		p.log.Warn("other nodes run with other definitions; those of this node's file are applied now and replace theirs; give every node the same file",
			"nodes", strings.Join(hosts, ", "))
	}
	if err := provision(ctx, p.store, c, p.log); err != nil {
		return err
	}
	p.behind.Set(0)
	p.warned = ""
	return p.store.SaveProvision(ctx, nodeName(), p.print)
}

// check says once when another node has applied other definitions.
func (p *provisioner) check(ctx context.Context) error {
	if !p.shared {
		return nil
	}
	known, err := p.store.Provisions(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell(known)
	return nil
}

// tell needs mu.
func (p *provisioner) tell(known []model.Provision) {
	if len(known) == 0 || known[0].Print == p.print {
		p.behind.Set(0)
		p.warned = ""
		return
	}
	p.behind.Set(1)
	if now := known[0]; p.warned != now.Print {
		p.warned = now.Print
		p.log.Warn("the definitions in force are those of another node's file, which were applied later; give every node the same file, or reload this node to apply its own",
			"node", now.Host, "applied_at", now.AppliedAt.UTC().Format(time.RFC3339))
	}
}

// superseded reports whether this node has applied these definitions before and
// another one has applied other ones since. The ones in force are the first.
func superseded(known []model.Provision, print string) bool {
	if len(known) == 0 || known[0].Print == print {
		return false
	}
	return slices.ContainsFunc(known, func(p model.Provision) bool { return p.Mine && p.Print == print })
}

// others names the live nodes whose file has other definitions.
func others(known []model.Provision, print string) []string {
	hosts := map[string]bool{}
	for _, p := range known {
		if p.Live && !p.Mine && p.Print != print {
			hosts[p.Host] = true
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}

// definitions returns a text that differs when what the file provisions does,
// the secrets included.
func definitions(c config.Config) ([]byte, error) {
	out := map[string]any{}
	for _, s := range c.Sources {
		d := s.Definition()
		secrets := map[string]string{"password": d.Auth.Password.Reveal(), "bearer_token": d.Auth.BearerToken.Reveal()}
		for name, v := range d.Headers {
			secrets["header/"+name] = v.Reveal()
		}
		out["source/"+d.Name] = []any{d, secrets}
	}
	for _, w := range c.Detectors {
		d, err := w.Definition()
		if err != nil {
			return nil, fmt.Errorf("provisioning detector %s: %w", w.Name, err)
		}
		pipeline.Defaults(&d)
		out["detector/"+d.Name] = d
	}
	b, err := json.Marshal(out) // keys are sorted
	if err != nil {
		return nil, fmt.Errorf("comparing definitions: %w", err)
	}
	return b, nil
}
