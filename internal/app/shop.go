package app

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"aiops/internal/config"
	"aiops/internal/demo"
	"aiops/internal/model"
	"aiops/internal/source/builtin"
)

// shopInterval is how often the shop is scraped: short, so that there is
// something to see soon.
const shopInterval = 2 * time.Second

// buildShop makes the demo's shop and adds its services to what is scraped.
// Their log lines go to demo/shop.log in the data directory, which begins
// anew at each start.
// Its lines are pushed to this server at address, too, as a log shipper would,
// with the key of this run where the server asks for one.
func (p *program) buildShop(c *config.Config, address string) error {
	dir := filepath.Join(c.DataDir, "demo")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("making the demo's directory: %w", err)
	}
	logs, err := os.OpenFile(filepath.Join(dir, "shop.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("opening the demo's log: %w", err)
	}
	p.shop, err = demo.New(demo.Config{Seed: p.options.DemoSeed, Logs: logs,
		Push: "http://" + address + "/loki/api/v1/push", Key: func() string { return p.localKey }})
	if err != nil {
		return err
	}
	if c.LogCounts.Learning == 0 { // so that the first faults are told
		c.LogCounts.Learning = model.Duration(time.Minute)
	}
	c.Builtin.Targets = append(c.Builtin.Targets, p.shopTargets()...)
	return nil
}

// shopTargets are the shop's services as scrape targets.
func (p *program) shopTargets() []builtin.Target {
	var out []builtin.Target
	for _, t := range p.shop.Targets() {
		out = append(out, builtin.Target{Job: "shop-" + t.Job, URLs: []string{t.URL}, Interval: model.Duration(shopInterval)})
	}
	return out
}
