package telemetry_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"aiops/internal/telemetry"
)

func TestLoggerWritesOneJSONObjectPerLineAndObeysTheLevel(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var level slog.LevelVar
	log := telemetry.NewLogger(telemetry.LogConfig{}, &out, &level)
	log.Debug("hidden")
	log.Info("source changed", "source", "main\nforged line %s")
	level.Set(slog.LevelDebug)
	log.Debug("shown")
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2:\n%s", len(lines), out.String())
	}
	var first map[string]any
	if err := json.Unmarshal(lines[0], &first); err != nil {
		t.Fatal(err)
	}
	if first["msg"] != "source changed" || first["source"] != "main\nforged line %s" {
		t.Errorf("first line = %v", first)
	}
}

func TestLogConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []telemetry.LogConfig{{Level: "loud"}, {Format: "xml"}} {
		if c.Validate() == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	if err := (telemetry.LogConfig{Level: "debug", Format: "text"}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestRegistryHoldsBuildAndProcess(t *testing.T) {
	t.Parallel()
	families, err := telemetry.NewRegistry(time.Unix(1000, 0)).Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range families {
		found[f.GetName()] = true
		if f.GetName() == "aiops_start_time_seconds" && f.GetMetric()[0].GetGauge().GetValue() != 1000 {
			t.Errorf("start time = %v", f.GetMetric()[0])
		}
	}
	for _, name := range []string{"aiops_build_info", "aiops_start_time_seconds", "go_goroutines", "process_resident_memory_bytes"} {
		if !found[name] {
			t.Errorf("no metric %s", name)
		}
	}
}
