package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crowd exports many gauges whose values move a little with each scrape.
type crowd struct{ series int }

// ServeHTTP writes the metrics.
func (c crowd) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	out := bufio.NewWriterSize(w, 1<<16)
	defer out.Flush()
	fmt.Fprintln(out, "# TYPE scale_value gauge")
	x := uint64(time.Now().UnixNano())
	for i := range c.series {
		x = x*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(out, "scale_value{pod=\"pod-%d\"} %d\n", i, 1000+i%100+int(x>>58))
	}
}

// metric returns the sum of the samples of a metric of the program.
func (s *server) metric(name string) float64 {
	s.t.Helper()
	_, body := s.get("/metrics")
	sum := 0.0
	for line := range strings.SplitSeq(string(body), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		if v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64); err == nil {
			sum += v
		}
	}
	return sum
}

// TestScale watches 100,000 series at a 30 s step from the embedded database.
// AIOPS_SCALE says for how long, such as 5m; without it the test is skipped,
// because it needs the machine for itself: make bench-scale.
func TestScale(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("AIOPS_SCALE"))
	if err != nil {
		t.Skip("AIOPS_SCALE is not set; make bench-scale runs it")
	}
	const series = 100_000
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: crowd{series}}
	go web.Serve(listener)
	t.Cleanup(func() { web.Close() })
	dir := t.TempDir()
	file := filepath.Join(dir, "aiops.yaml")
	config := fmt.Sprintf(`
builtin:
  host: {disabled: true}
  targets: [{job: crowd, urls: ["http://%s/metrics"], interval: 30s, timeout: 25s, max_bytes: 67108864, max_samples: 200000}]
detectors:
- {name: crowd, query: scale_value, step: 30s}
`, listener.Addr())
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, filepath.Join(dir, "data"), "serve", "--config", file)
	s.eventually(2*time.Minute, "all series are watched", func() error {
		if n := s.metric("aiops_pipeline_series"); n < series {
			return fmt.Errorf("%.0f series", n)
		}
		return nil
	})
	cpu, scored, began := s.metric("process_cpu_seconds_total"), s.metric("aiops_pipeline_samples_scored_total"), time.Now()
	worst := 0.0
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for time.Since(began) < length {
		<-tick.C
		worst = max(worst, s.metric("aiops_pipeline_lag_seconds"))
	}
	took := time.Since(began).Seconds()
	scored = s.metric("aiops_pipeline_samples_scored_total") - scored
	t.Logf("%d series for %.0f s: %.0f samples scored, worst lag %.1f s, %.2f cores, %.0f MiB resident, %.0f MiB of models",
		series, took, scored, worst, (s.metric("process_cpu_seconds_total")-cpu)/took,
		s.metric("process_resident_memory_bytes")/(1<<20), s.metric("aiops_pipeline_model_memory_bytes")/(1<<20))
	if want := took/30*series - 2*series; scored < want {
		t.Errorf("%.0f samples scored in %.0f s, want at least %.0f", scored, took, want)
	}
	if worst > 60 {
		t.Errorf("the lag reached %.1f s: it does not keep up", worst)
	}
}
