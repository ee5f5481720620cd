package builtin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"aiops/internal/model"
	"aiops/internal/testkit"
)

func message1(series ...model.SeriesData) []byte {
	var req prompb.WriteRequest
	for _, s := range series {
		var ts prompb.TimeSeries
		for _, l := range s.Labels {
			ts.Labels = append(ts.Labels, prompb.Label{Name: l.Name, Value: l.Value})
		}
		for _, p := range s.Samples {
			ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: p.T, Value: p.V})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	b, err := proto.Marshal(&req)
	if err != nil {
		panic(err)
	}
	return b
}

func message2(series ...model.SeriesData) []byte {
	symbols := writev2.NewSymbolTable()
	var req writev2.Request
	for _, s := range series {
		var ts writev2.TimeSeries
		for _, l := range s.Labels {
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		for _, p := range s.Samples {
			ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: p.T, Value: p.V})
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	req.Symbols = symbols.Symbols()
	b, err := proto.Marshal(&req)
	if err != nil {
		panic(err)
	}
	return b
}

const (
	type1 = "application/x-protobuf"
	type2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

func post(s *Source, contentType string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Content-Encoding", "snappy")
	w := httptest.NewRecorder()
	s.RemoteWrite().ServeHTTP(w, r)
	return w
}

func TestRemoteWrite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, kind string
		message    func(...model.SeriesData) []byte
	}{{"1.0", type1, message1}, {"2.0", type2, message2}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := setup(t, func(c *Config) { c.OutOfOrderWindow, c.MaxSeries = model.Duration(time.Hour), 3 })
			now := time.Now().UnixMilli()
			at := func(d time.Duration) float64 { return float64(now + d.Milliseconds()) }
			w := post(s, tc.kind, snappy.Encode(nil, tc.message(series("x", "a", at(0), 1), series("x", "b", at(0), 2))))
			if w.Code != http.StatusNoContent || w.Body.Len() != 0 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			// A sender that did not hear the answer sends again.
			if w := post(s, tc.kind, snappy.Encode(nil, tc.message(series("x", "a", at(0), 1)))); w.Code != http.StatusNoContent {
				t.Errorf("sent again: %d %s", w.Code, w.Body)
			}
			// What can be taken is taken, and the answer tells of the rest.
			w = post(s, tc.kind, snappy.Encode(nil, tc.message(
				series("x", "a", at(-2*time.Hour), 9, at(time.Second), 3), series("x", "c", at(0), 4), series("x", "d", at(0), 5), series("x", "b", at(0), 99))))
			if w.Code != http.StatusBadRequest {
				t.Errorf("in part: %d %s", w.Code, w.Body)
			}
			for _, part := range []string{"1 would make a new series beyond the limit", "1 are older than the out-of-order window", "1 differ from a sample of the same time"} {
				if !strings.Contains(w.Body.String(), part) {
					t.Errorf("the answer does not say %q: %s", part, w.Body)
				}
			}
			if tc.name == "2.0" {
				if got := w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"); got != "2" {
					t.Errorf("told that %s samples were written, want 2", got)
				}
			}
			got, err := s.Query(context.Background(), "sort(x)", time.UnixMilli(now+1000), 0)
			if err != nil || show(got) != fmt.Sprintf("b %[1]d=2; a %[1]d=3; c %[1]d=4", now+1000) {
				t.Errorf("stored %q, %v", show(got), err)
			}
			list, err := s.Collectors(context.Background())
			if err != nil || len(list) != 1 || list[0].State != model.CollectorUp || list[0].Samples != 2 || !strings.Contains(list[0].Error, "3 samples were refused") {
				t.Errorf("collectors %+v, %v", list, err)
			}
		})
	}
}

// declare makes a body that declares n bytes and holds nothing.
func declare(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func TestRemoteWriteRefuses(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	tiny := bytes.Repeat([]byte{1<<3 | 2, 0}, 8<<20) // eight million empty series in 16 MiB
	good := snappy.Encode(nil, message1(series("x", "a", 1, 1)))
	for _, tc := range []struct {
		name                   string
		method, kind, encoding string
		body                   []byte
		status                 int
		wants                  string
	}{
		{"another method", http.MethodGet, type1, "snappy", nil, 405, "wants POST"},
		{"JSON", http.MethodPost, "application/json", "snappy", good, 415, "content type"},
		{"another message", http.MethodPost, "application/x-protobuf;proto=x.Y", "snappy", good, 415, "content type"},
		{"gzip", http.MethodPost, type1, "gzip", good, 415, "not snappy"},
		{"empty", http.MethodPost, type1, "snappy", nil, 400, "not a remote-write message"},
		{"4 GB declared", http.MethodPost, type1, "snappy", declare(4 << 30), 413, "at most 16777216"},
		{"more than an int declared", http.MethodPost, type1, "snappy", bytes.Repeat([]byte{0xff}, 11), 400, "not a remote-write message"},
		{"16 MiB declared, nothing there", http.MethodPost, type1, "snappy", declare(16 << 20), 400, "not a remote-write message"},
		{"more than declared", http.MethodPost, type1, "snappy", append(declare(10), make([]byte, 1<<20)...), 413, "larger than what it declares"},
		{"not snappy", http.MethodPost, type1, "snappy", append(declare(4), "\xff\xff\xff\xff"...), 400, "not a remote-write message"},
		{"not protobuf", http.MethodPost, type1, "snappy", snappy.Encode(nil, []byte("<html>hello")), 400, "not a remote-write message"},
		{"millions of empty series", http.MethodPost, type1, "snappy", snappy.Encode(nil, tiny), 413, "too many small parts"},
		{"millions of empty series, 2.0", http.MethodPost, type2, "snappy", snappy.Encode(nil, bytes.Repeat([]byte{5<<3 | 2, 0}, 8<<20)), 413, "too many small parts"},
		{"a huge label", http.MethodPost, type1, "snappy", snappy.Encode(nil, message1(series("x", strings.Repeat("a", 15<<20), 1, 1))), 400, "a label of more than 65536 bytes"},
		{"a huge symbol", http.MethodPost, type2, "snappy", snappy.Encode(nil, message2(series("x", strings.Repeat("a", 15<<20), 1, 1))), 400, "a label of more than 65536 bytes"},
		{"a symbol that is not there", http.MethodPost, type2, "snappy", snappy.Encode(nil, []byte{5<<3 | 2, 4, 1<<3 | 2, 2, 8, 9}), 400, "labels"},
		{"a far future", http.MethodPost, type1, "snappy", snappy.Encode(nil, message1(series("x", "a", float64(time.Now().Add(time.Hour).UnixMilli()), 1))), 400, "future"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(tc.method, "/api/v1/write", bytes.NewReader(tc.body))
			r.Header.Set("Content-Type", tc.kind)
			r.Header.Set("Content-Encoding", tc.encoding)
			w := httptest.NewRecorder()
			s.RemoteWrite().ServeHTTP(w, r)
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.wants) {
				t.Errorf("%d %s, want %d with %q", w.Code, w.Body, tc.status, tc.wants)
			}
			if w.Code == 405 && w.Header().Get("Allow") != "POST" {
				t.Error("no Allow header")
			}
		})
	}
}

// Bombs must not take memory. Not parallel, because it counts what the process
// allocates.
func TestRemoteWriteBombs(t *testing.T) {
	s := setup(t, nil)
	bombs := [][]byte{declare(4 << 30), declare(16 << 20), append(declare(16<<20), make([]byte, 100)...)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 300
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if w := post(s, type1, bombs[i%len(bombs)]); w.Code != 400 && w.Code != 413 && w.Code != 503 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	all.Wait()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("%d bombs allocated %d MiB", n, took>>20)
	}
}

// At its budget the receiver refuses in time, and takes requests again when
// there is room.
func TestRemoteWriteIsBounded(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	body := snappy.Encode(nil, message1(series("x", "a", float64(time.Now().UnixMilli()), 1)))
	if !s.receiver.reading.TryAcquire(readBudget) {
		t.Fatal("the budget is taken")
	}
	w := post(s, type1, body)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" {
		t.Errorf("%d %v %s, want 503 with Retry-After", w.Code, w.Header(), w.Body)
	}
	s.receiver.reading.Release(readBudget)
	if w := post(s, type1, body); w.Code != http.StatusNoContent {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
}

func TestReceiveReturnsErrors(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(declare(4<<30)))
	w := httptest.NewRecorder()
	status, err := s.Receive(w, r)
	var e *model.Error
	if status != 413 || !errors.As(err, &e) || e.Kind != model.KindTooLarge || w.Body.Len() > 0 || w.Code != 200 {
		t.Errorf("%d, %v, and wrote %d %q", status, err, w.Code, w.Body)
	}
}

// The real sender's own client, and a real Prometheus that writes to us.
func TestRemoteWriteFromItsClient(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	srv := httptest.NewServer(s.RemoteWrite())
	t.Cleanup(srv.Close)
	httpClient := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	api, err := remoteapi.NewAPI(srv.URL, remoteapi.WithAPIHTTPClient(httpClient), remoteapi.WithAPIPath(""))
	if err != nil {
		t.Fatal(err)
	}
	var req writev2.Request
	if err := proto.Unmarshal(message2(series("x", "a", float64(time.Now().UnixMilli()), 1)), &req); err != nil {
		t.Fatal(err)
	}
	stats, err := api.Write(context.Background(), remoteapi.WriteV2MessageType, &req)
	if err != nil || stats.Samples != 1 {
		t.Errorf("%+v, %v", stats, err)
	}
}

func TestRealPrometheusWritesToUs(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	srv := httptest.NewServer(s.RemoteWrite())
	t.Cleanup(srv.Close)
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "answer 42") }))
	t.Cleanup(exporter.Close)
	testkit.RequirePrometheus(t, testkit.PrometheusOptions{Config: fmt.Sprintf(
		"global: {scrape_interval: 1s, scrape_timeout: 1s}\nremote_write: [{url: %q, queue_config: {batch_send_deadline: 200ms}}]\nscrape_configs: [{job_name: shop, static_configs: [{targets: [%q]}]}]\n",
		srv.URL, strings.TrimPrefix(exporter.URL, "http://"))})
	eventually(t, func() string {
		got, err := s.Query(context.Background(), `answer{job="shop"}`, time.Now(), 0)
		if err != nil || len(got) != 1 || got[0].Samples[0].V != 42 {
			return fmt.Sprintf("stored %v, %v", got, err)
		}
		return ""
	})
}

// While there is no room every way in is closed, and queries are answered.
func TestAFullDiskRefuses(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	s := setup(t, func(c *Config) {
		c.Interval = model.Duration(time.Second)
		c.Room = func() error {
			if full.Load() {
				return model.Errorf(model.KindStorageFull, "", "full")
			}
			return nil
		}
	}, prometheus.NewRegistry())
	run(t, s)
	now := time.Now().UnixMilli()
	body := func(v float64) []byte { return snappy.Encode(nil, message1(series("x", "a", float64(now)+v, v))) }
	if w := post(s, type1, body(1)); w.Code != 204 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	state := func(want model.HealthState) {
		t.Helper()
		eventually(t, func() string {
			if h := s.Health(); h.State != want {
				return fmt.Sprintf("the source is %s (%s), want %s", h.State, h.LastError, want)
			}
			return ""
		})
	}
	state(model.SourceUp)
	full.Store(true)
	if w := post(s, type1, body(2)); w.Code != 507 {
		t.Errorf("remote write: %d %s", w.Code, w.Body)
	}
	if err := s.Append(t.Context(), []model.SeriesData{series("x", "b", float64(now), 1)}); model.KindOf(err) != model.KindStorageFull {
		t.Errorf("the program's own samples: %v", err)
	}
	state(model.SourceDown)
	if got, err := s.Query(t.Context(), `x`, time.UnixMilli(now+10), 0); err != nil || len(got) != 1 || got[0].Samples[0].V != 1 {
		t.Errorf("stored %v, %v", got, err)
	}
	full.Store(false)
	if w := post(s, type1, body(3)); w.Code != 204 {
		t.Errorf("with room again: %d %s", w.Code, w.Body)
	}
	state(model.SourceUp)
}

func FuzzReceive(f *testing.F) {
	f.Add(message1(series("x", "a", 1, 1)), false)
	f.Add(message2(series("x", "a", 1, 1, 2, 2), series("y", "b", 1, 1)), true)
	f.Add([]byte{}, false)
	f.Add([]byte{1<<3 | 2, 0, 5<<3 | 2, 0}, true)
	cfg := Config{Dir: f.TempDir(), Host: HostConfig{Disabled: true}, MaxSeries: 1000}
	s, err := Open(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, message []byte, version2 bool) {
		kind := type1
		if version2 {
			kind = type2
		}
		if w := post(s, kind, snappy.Encode(nil, message)); w.Code != 204 && w.Code != 400 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		_ = post(s, kind, message)
	})
}
