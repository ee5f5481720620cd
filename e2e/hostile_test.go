package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang/snappy"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkresource "go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/protobuf/encoding/protowire"
)

// shipper sends lines as log shippers do: protobuf, compressed with snappy.
func (s *server) ship(labels string, lines ...string) (status int, body string) {
	return s.shipStreams(map[string][]string{labels: lines})
}

func (s *server) shipStreams(streams map[string][]string) (status int, body string) {
	s.t.Helper()
	var out []byte
	now := time.Now()
	for labels, lines := range streams {
		stream := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), labels)
		for i, line := range lines {
			at := now.Add(time.Duration(i))
			stamp := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(at.Unix()))
			stamp = protowire.AppendVarint(protowire.AppendTag(stamp, 2, protowire.VarintType), uint64(at.Nanosecond()))
			entry := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), stamp)
			entry = protowire.AppendString(protowire.AppendTag(entry, 2, protowire.BytesType), line)
			stream = protowire.AppendBytes(protowire.AppendTag(stream, 2, protowire.BytesType), entry)
		}
		out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), stream)
	}
	r, err := http.NewRequest(http.MethodPost, s.url+"/loki/api/v1/push", bytes.NewReader(snappy.Encode(nil, out)))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	r.Header.Set("User-Agent", "promtail/3.0.0")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// memory is the resident memory of the process in bytes: VmRSS is the present
// one, VmHWM the most there was. It is 0 where the system does not tell.
func (s *server) memory(field string) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(data), field+":")
	kib, _ := strconv.ParseInt(strings.Fields(after + " 0")[0], 10, 64)
	return kib << 10
}

// livez is probe of /livez.
func (s *server) livez(stop <-chan struct{}) (took []time.Duration, bad int) {
	return s.probe("/livez", stop)
}

// probe asks for a path 50 times a second until stop and returns how long the
// answers took, the shortest first, and the number of bad ones.
func (s *server) probe(path string, stop <-chan struct{}) (took []time.Duration, bad int) {
	for {
		began := time.Now()
		status, body := s.get(path)
		took = append(took, time.Since(began))
		if status != http.StatusOK {
			if bad++; bad == 1 {
				s.t.Logf("%s: %d %s", path, status, body)
			}
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-stop:
			timer.Stop()
			slices.Sort(took)
			return took, bad
		case <-timer.C:
		}
	}
}

var hostileLines = []string{
	"<script>alert(1)</script> was asked for by \"><img src=x onerror=alert(1)>", "\x1b[31mred\x1b[0m \x1b]0;title\a bell", "\u202eevil\u2066 turned round",
	"a\x00b NUL inside", "invalid \xff\xfe\xc3\x28 bytes", "{{7*7}} ${jndi:ldap://x/y} %s %n %x", "=HYPERLINK(\"http://x\")", "zero\u200bwidth\ufeff",
	strings.Repeat("{\"a\":", 5000), strings.Repeat("\\", 9999), "line\r\nwith\nbreaks", "' OR 1=1; DROP TABLE lines; --",
}

// Lines are what an attacker writes. All of them are taken or told to be
// wrong, what is shown of them can do no harm, and meanwhile nothing else slows
// down or grows without bound.
func TestHostileLines(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), "serve")
	quiet := make(chan struct{})
	time.AfterFunc(2*time.Second, func() { close(quiet) })
	inQuiet, _ := s.livez(quiet)
	before := s.memory("VmRSS")

	stop := make(chan struct{})
	var watching sync.WaitGroup
	var meanwhile []time.Duration
	var bad int
	watching.Go(func() { meanwhile, bad = s.livez(stop) })
	peak := before
	taken := func(status int, body string) {
		t.Helper()
		if status != http.StatusNoContent && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
			t.Errorf("a push is answered with %d %.200s", status, body)
		}
		peak = max(peak, s.memory("VmRSS"))
	}
	for range 20 {
		taken(s.ship(`{app="hostile"}`, hostileLines...))
	}
	large := strings.Repeat("wide \u202e<b> ", 1<<20/12)
	for range 10 { // 4 MB each
		taken(s.ship(`{app="large"}`, large, large, large, large))
	}
	const values, each = 100_000, 5_000
	for begin := 0; begin < values; begin += each {
		streams := map[string][]string{}
		for i := begin; i < begin+each; i++ {
			streams[fmt.Sprintf(`{app="v<%d>\u202e",id="%x"}`, i, i*7919)] = []string{"order was shipped"}
		}
		taken(s.shipStreams(streams))
	}
	s.export(hostileLines)
	close(stop)
	watching.Wait()
	calm, busy := inQuiet[len(inQuiet)*9/10], meanwhile[len(meanwhile)*9/10]
	t.Logf("/livez: nine of ten within %s, quiet %s; memory %d MiB, before %d MiB", busy, calm, peak>>20, before>>20)
	if bad > 0 {
		t.Errorf("/livez was not 200 %d times", bad)
	}
	if limit := 50*calm + 500*time.Millisecond; busy > limit {
		t.Errorf("/livez took %s for one of ten, and %s in quiet", busy, calm)
	}
	if grown := peak - before; grown > 400<<20 && !raced {
		t.Errorf("the program grew by %d MiB", grown>>20)
	}

	// What is shown.
	shown := s.lines(selecting(`{app="hostile"}`))
	if len(shown) < len(hostileLines) {
		t.Errorf("%d hostile lines are kept", len(shown))
	}
	paths := []string{"/api/v1/logs/patterns?limit=500", "/metrics", "/readyz"}
	for _, selector := range []string{`{app="hostile"}`, `{app="large"}`, `{service_name="exported"}`, `{app="(other)"}`} {
		paths = append(paths, "/api/v1/logs/lines?"+url.Values{"selector": {selector}, "limit": {"1000"}}.Encode())
	}
	for _, path := range paths {
		s.harmless(path)
	}
	var patterns struct {
		Items []struct {
			Template string `json:"template"`
		} `json:"items"`
	}
	s.json(http.MethodGet, "/api/v1/logs/patterns?limit=500", nil, &patterns)
	if len(patterns.Items) == 0 {
		t.Error("there are no patterns")
	}
	for _, p := range patterns.Items {
		if i := strings.IndexFunc(p.Template, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf) }); i >= 0 || p.Template == "" {
			t.Errorf("a pattern shows %q", p.Template)
		}
	}

	// What is counted.
	_, metrics := s.get("/metrics")
	for name, least := range map[string]float64{"aiops_source_intake_lines_cut_total": 40, "aiops_source_lines_relabelled_total": values - 2*1_000} {
		if got := counter(string(metrics), name); got < least {
			t.Errorf("%s is %v, want at least %v", name, got, least)
		}
	}
	if got := counter(string(metrics), "aiops_no_such_total"); got != 0 { // a control
		t.Errorf("a counter that is not there is %v", got)
	}
	if code := s.terminate(60 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// export sends lines by OpenTelemetry's own exporter.
func (s *server) export(lines []string) {
	s.t.Helper()
	exporter, err := otlploghttp.New(s.t.Context(), otlploghttp.WithEndpointURL(s.url+"/v1/logs"), otlploghttp.WithCompression(otlploghttp.GzipCompression))
	if err != nil {
		s.t.Fatal(err)
	}
	provider := sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)),
		sdklog.WithResource(sdkresource.NewSchemaless(attribute.String("service.name", "exported"))))
	n := 0
	for _, text := range lines {
		if !utf8.ValidString(text) {
			continue // its encoder refuses them
		}
		n++
		var r log.Record
		r.SetTimestamp(time.Now())
		r.SetSeverity(log.SeverityWarn)
		r.SetBody(attribute.StringValue(text))
		provider.Logger("shop").Emit(context.Background(), r)
	}
	if err := provider.Shutdown(s.t.Context()); err != nil {
		s.t.Errorf("exporting: %v", err)
	}
	if got := s.lines(selecting(`{service_name="exported"}`)); len(got) != n || got[0].Level != "warn" {
		s.t.Errorf("%d exported lines are kept, want %d", len(got), n)
	}
}

// counter is the sum of a counter's series in a scrape.
func counter(metrics, name string) (sum float64) {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, name+"{") || strings.HasPrefix(line, name+" ") {
			v, _ := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]), 64)
			sum += v
		}
	}
	return sum
}

// harmless checks that an answer is what its type says, and that a browser
// that is given it runs nothing: lines are shown as they are, but in JSON.
func (s *server) harmless(path string) {
	s.t.Helper()
	resp, err := http.Get(s.url + path) //nolint:gosec // our own child
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	kind := resp.Header.Get("Content-Type")
	switch {
	case resp.StatusCode != http.StatusOK:
		s.t.Errorf("%s: %d", path, resp.StatusCode)
	case strings.HasPrefix(kind, "text/html") || resp.Header.Get("X-Content-Type-Options") != "nosniff":
		s.t.Errorf("%s: type %q, which a browser may take for a page: %v", path, kind, resp.Header)
	case strings.Contains(kind, "json") && !json.Valid(body), !utf8.Valid(body):
		s.t.Errorf("%s: not %s", path, kind)
	case bytes.ContainsAny(body, "\x00\x1b\a"):
		s.t.Errorf("%s shows control characters as they are", path)
	}
}
