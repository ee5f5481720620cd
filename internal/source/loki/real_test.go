package loki

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"aiops/internal/model"
)

const realConfig = `
auth_enabled: false
server: {http_listen_address: 127.0.0.1, http_listen_port: %d, grpc_listen_address: 127.0.0.1, grpc_listen_port: %d, log_level: error}
common:
  instance_addr: 127.0.0.1
  path_prefix: %s
  storage: {filesystem: {chunks_directory: %[3]s/chunks, rules_directory: %[3]s/rules}}
  replication_factor: 1
  ring: {kvstore: {store: inmemory}}
schema_config:
  configs: [{from: 2020-10-24, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}]
analytics: {reporting_enabled: false}
`

// startLoki starts the program that LOKI_BIN names.
func startLoki(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("LOKI_BIN")
	if bin == "" {
		t.Skip("LOKI_BIN does not name a Loki to test with")
	}
	dir := t.TempDir()
	ports := [2]int{}
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	config := filepath.Join(dir, "loki.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, realConfig, ports[0], ports[1], dir), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(bin, "-config.file="+config) //nolint:gosec // named by whoever runs the test
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	await(t, "Loki is ready", func() bool {
		resp, err := http.Get(url + "/ready") //nolint:gosec // our own child
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	return url
}

func push(t *testing.T, url string, lines ...entry) {
	t.Helper()
	var all []any
	for _, l := range lines {
		all = append(all, map[string]any{"stream": map[string]string{"app": l.app}, "values": [][]string{{fmt.Sprint(l.t), l.text}}})
	}
	body, _ := json.Marshal(map[string]any{"streams": all})
	resp, err := http.Post(url+"/loki/api/v1/push", "application/json", bytes.NewReader(body)) //nolint:gosec // our own child
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		t.Fatalf("push: %s", resp.Status)
	}
}

func TestRealLoki(t *testing.T) {
	url := startLoki(t)
	c := connect(t, url, nil)
	now := time.Now().Add(-time.Minute)
	odd := `a"b\` + "\n\u202eü"
	for i := range 100 {
		push(t, url, entry{now.UnixNano() + int64(i), odd, fmt.Sprintf("line %d", i)})
	}
	if err := c.ParseQuery(`sum(rate({app="a"} |= "x" [1m]))`); err != nil {
		t.Errorf("a good query: %v", err)
	}
	requireError(t, c.ParseQuery(`sum(rate({app="a"}[1m])`), model.KindQuery, "line 1, column")
	query := model.Selector{{Name: "app", Op: model.MatchEqual, Value: odd}}.String()
	lines, next, err := c.Lines(t.Context(), query, model.LogFilter{From: now.UnixNano(), OldestFirst: true, Limit: 60})
	if err != nil || len(lines) != 60 || next == "" || lines[59].Text != "line 59" {
		t.Fatalf("%d lines, next %q, %v", len(lines), next, err)
	}
	series, err := c.QueryRange(t.Context(), "sum(count_over_time("+query+"[5m]))", now.Truncate(time.Minute), now.Add(2*time.Minute).Truncate(time.Minute), time.Minute, 10)
	if err != nil || len(series) != 1 {
		t.Errorf("numbers: %v, %v", series, err)
	}
	s := &taker{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Follow(ctx, query, now, s.take) }()
	await(t, "the past", func() bool { return s.count() >= 100 })
	for i := range 50 {
		push(t, url, entry{time.Now().UnixNano(), odd, fmt.Sprintf("live %d", i)})
	}
	await(t, "the present", func() bool { return s.count() >= 150 })
	cancel()
	<-done
	if s.count() != 150 {
		t.Errorf("%d lines came, want 150", s.count())
	}
	names, err := c.Labels(t.Context(), now.Add(-time.Hour), time.Now())
	if err != nil || len(names) == 0 {
		t.Errorf("labels %v, %v", names, err)
	}
}
