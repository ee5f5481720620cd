package app

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"aiops/internal/api"
	"aiops/internal/telemetry"
)

// deployment describes this program and how it runs.
func (p *program) deployment() api.Deployment {
	b := telemetry.BuildInfo()
	node, err := os.Hostname()
	if err != nil {
		node = "unknown"
	}
	c := p.config.Load()
	// Secrets print as a placeholder, so the hash tells nothing of them.
	hash := sha256.Sum256(fmt.Appendf(nil, "%+v", *c))
	features := []string{"metrics", "remote_write"}
	if p.shop != nil {
		features = append(features, "demo")
	}
	if c.Auth.Enabled {
		features = append(features, "authentication")
	}
	return api.Deployment{
		Version: b.Version, Commit: b.Commit, BuiltAt: b.Date, GoVersion: b.GoVersion, Platform: b.Platform,
		StartedAt: p.started, UptimeSeconds: time.Since(p.started).Seconds(), Node: node,
		StorageEngine: p.store.Engine(), Features: features,
		Limits: map[string]any{
			"series_per_detector": c.Pipeline.MaxSeries, "builtin_series": c.Builtin.MaxSeries,
			"stop_timeout": c.Server.StopTimeout.String(),
		},
		ConfigHash: hex.EncodeToString(hash[:]),
	}
}
