package app

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"aiops/internal/admission"
	"aiops/internal/api"
	"aiops/internal/telemetry"
)

// deployment describes this program and how it runs.
func (p *program) deployment() api.Deployment {
	b := telemetry.BuildInfo()
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
		StartedAt: p.started, UptimeSeconds: time.Since(p.started).Seconds(), Node: nodeName(),
		StorageEngine: p.store.Engine(), Features: features,
		Limits:     p.limits(),
		ConfigHash: hex.EncodeToString(hash[:]),
	}
}

// limits are those in force, defaults included.
func (p *program) limits() map[string]any {
	c := p.config.Load()
	scoring, in, answers, ranges := p.engine.Config(), p.admission.Config(), p.responses.Config(), p.queries.Config()
	return map[string]any{
		"series_per_detector": scoring.MaxSeries, "model_memory_bytes": scoring.MaxMemoryBytes, "evaluations_at_once": scoring.Workers,
		"builtin_series": p.embedded.MaxSeries(), "stop_timeout": c.Server.StopTimeout.String(),
		"request_body_bytes": api.MaxBodyBytes, "requests_in_flight": p.admission.Load().Limit, "requests_in_flight_max": in.MaxConcurrency, "heavy_requests_per_user": admission.MaxHeavy,
		"client_requests_per_second": in.Client.PerSecond, "client_burst": in.Client.Burst,
		"loopback_requests_per_second": in.Loopback.PerSecond, "loopback_burst": in.Loopback.Burst,
		"key_requests_per_second": in.Key.PerSecond, "key_burst": in.Key.Burst,
		"memory_bytes": in.MemoryBytes, "kept_answers_bytes": answers.MaxBytes, "kept_answers_age": answers.MaxAge.String(),
		"kept_queries_bytes": ranges.MaxBytes, "kept_queries_age": ranges.MaxAge.String(), "kept_queries_recent_age": ranges.RecentAge.String(),
	}
}

// nodeName names the machine that the program runs on.
func nodeName() string {
	node, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return node
}
