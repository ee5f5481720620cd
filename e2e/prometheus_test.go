package e2e

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// exporter exports one gauge, whose value is a calm wave plus what the test
// adds.
type exporter struct {
	extra atomic.Uint64
}

func (e *exporter) add(v float64) { e.extra.Store(math.Float64bits(v)) }

// ServeHTTP writes the metric.
func (e *exporter) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	now := float64(time.Now().UnixMilli()) / 1000
	value := 100 + 2*math.Sin(now) + 1.3*math.Sin(now*7.1) + math.Float64frombits(e.extra.Load())
	fmt.Fprintf(w, "# TYPE queue_depth gauge\nqueue_depth{queue=\"mail\"} %g\n", value)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startPrometheus runs a real Prometheus that scrapes target each second.
func startPrometheus(t *testing.T, dir, address, target string) *exec.Cmd {
	t.Helper()
	path := require(t, "prometheus")
	file := filepath.Join(dir, "prometheus.yml")
	config := fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 900ms}\nscrape_configs:\n- job_name: test\n  static_configs: [{targets: [%q]}]\n", target)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+address, "--log.level=error")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(cmd) })
	eventually(t, 30*time.Second, "Prometheus is ready", func() error {
		response, err := http.Get("http://" + address + "/-/ready")
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", response.StatusCode)
		}
		return nil
	})
	return cmd
}

func stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func TestARealPrometheus(t *testing.T) {
	t.Parallel()
	require(t, "prometheus")
	gauge := &exporter{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: gauge}
	go web.Serve(listener)
	t.Cleanup(func() { web.Close() })

	dir := t.TempDir()
	address := freeAddress(t)
	prometheus := startPrometheus(t, dir, address, listener.Addr().String())
	file := filepath.Join(dir, "aiops.yaml")
	config := fmt.Sprintf(`
builtin: {host: {disabled: true}}
sources:
- {name: main, type: prometheus, url: "http://%s", late_data: 1s}
detectors:
- name: queue
  source: main
  query: queue_depth
  step: 1s
  model: robust_zscore
  parameters: {window: 60}
  direction: above
  min_deviation: {absolute: 10}
  keep_firing_for: 3s
`, address)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, filepath.Join(dir, "data"), "serve", "--config", file)

	status := func() detector {
		var detectors list[detector]
		s.json(http.MethodGet, "/api/v1/detectors", nil, &detectors)
		if len(detectors.Items) != 1 {
			t.Fatalf("%d detectors, want 1", len(detectors.Items))
		}
		return detectors.Items[0]
	}
	anomalies := func(state string) []anomaly {
		var out list[anomaly]
		s.json(http.MethodGet, "/api/v1/anomalies?state="+state, nil, &out)
		return out.Items
	}
	s.eventually(2*time.Minute, "the detector has learned", func() error {
		if d := status(); d.Status.State != "running" {
			return fmt.Errorf("it is %s with %d series, %s", d.Status.State, d.Status.SeriesActive, d.Status.LastError)
		}
		return nil
	})
	if open := anomalies("firing"); len(open) != 0 {
		t.Fatalf("an anomaly before any fault: %+v", open)
	}

	gauge.add(200)
	began := time.Now()
	s.eventually(10*time.Second, "the fault is an open anomaly", func() error {
		if len(anomalies("firing")) == 0 {
			_, replay := s.get("/api/v1/detectors/" + status().ID + "/replay")
			return fmt.Errorf("none is firing; detector %+v, replay …%s", status().Status, replay[max(0, len(replay)-1500):])
		}
		return nil
	})
	// One second until the next scrape, one of late data, and two steps.
	took := time.Since(began)
	t.Logf("open %s after the fault", took)
	if took > 5*time.Second {
		t.Errorf("the anomaly opened %s after the fault", took)
	}

	// While the source is away nothing resolves, although values are not seen.
	stop(prometheus)
	s.eventually(20*time.Second, "the detector says that its source is away", func() error {
		if d := status(); d.Status.State != "degraded" && d.Status.State != "failed" {
			return fmt.Errorf("it is %s", d.Status.State)
		}
		return nil
	})
	hold := time.NewTimer(8 * time.Second)
	<-hold.C
	if open := anomalies("firing"); len(open) != 1 {
		t.Fatalf("%d anomalies are firing while the source is away, want the one of before", len(open))
	}
	if resolved := anomalies("resolved"); len(resolved) != 0 {
		t.Fatalf("an anomaly was resolved while the source was away: %+v", resolved)
	}

	gauge.add(0)
	startPrometheus(t, dir, address, listener.Addr().String())
	s.eventually(60*time.Second, "the anomaly resolves after the fault", func() error {
		if resolved := anomalies("resolved"); len(resolved) != 1 {
			return fmt.Errorf("%d resolved, %d firing, detector %+v", len(resolved), len(anomalies("firing")), status().Status)
		}
		return nil
	})
	if open := anomalies("firing"); len(open) != 0 {
		t.Errorf("still firing: %+v", open)
	}
	var explained map[string]any
	s.json(http.MethodGet, "/api/v1/anomalies/"+anomalies("resolved")[0].ID+"/explain", nil, &explained)
	if len(explained) == 0 {
		t.Error("the anomaly is not explained")
	}
}
