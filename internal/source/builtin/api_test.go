package builtin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	promapi "github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus"
	prommodel "github.com/prometheus/common/model"

	"aiops/internal/model"
	"aiops/internal/source/prom"
)

func get(s *Source, path string) (int, string) {
	w := httptest.NewRecorder()
	s.QueryAPI().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, strings.TrimSuffix(w.Body.String(), "\n")
}

// apiSource has two series, of which one has values that JSON cannot tell.
func apiSource(t *testing.T, change func(*Config)) *Source {
	t.Helper()
	s := setup(t, change)
	err := s.Append(context.Background(), []model.SeriesData{
		series("x", "a", 1000, 1, 2000, 2, 3500, 3),
		series("y", "<b>\"\\\n\u2028", 1000, math.NaN(), 2000, math.Inf(1), 3000, math.Inf(-1), 4000, 1e-9),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestQueryAPI(t *testing.T) {
	t.Parallel()
	s := apiSource(t, func(c *Config) { c.Query.MaxSeries = 2 })
	for _, tc := range []struct {
		path   string
		status int
		wants  string
	}{
		{"query?query=x&time=2", 200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"x","instance":"a"},"value":[2,"2"]}]}}`},
		{"query?query=x&time=1970-01-01T00:00:02.5Z", 200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"x","instance":"a"},"value":[2.500,"2"]}]}}`},
		{"query?query=x[2s]&time=2", 200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"x","instance":"a"},"values":[[1,"1"],[2,"2"]]}]}}`},
		{"query?query=1%2B1&time=2", 200, `{"status":"success","data":{"resultType":"scalar","result":[2,"2"]}}`},
		{"query?query=%22hi%22&time=2", 200, `{"status":"success","data":{"resultType":"string","result":[2,"hi"]}}`},
		{"query?query=none&time=2", 200, `{"status":"success","data":{"resultType":"vector","result":[]}}`},
		{"query_range?query=x&start=1&end=4&step=1", 200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"x","instance":"a"},"values":[[1,"1"],[2,"2"],[3,"2"],[4,"3"]]}]}}`},
		{"query_range?query=y&start=1&end=4&step=1s", 200, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"y","instance":"\u003cb\u003e\"\\\n` + "\u2028" + `"},"values":[[1,"NaN"],[2,"+Inf"],[3,"-Inf"],[4,"1e-09"]]}]}}`},
		{"series?match[]=x", 200, `{"status":"success","data":[{"__name__":"x","instance":"a"}]}`},
		{"series?match[]=x&match[]={__name__=~\".%2B\"}&limit=1", 200, `{"status":"success","data":[{"__name__":"x","instance":"a"}],"warnings":["results truncated due to limit"]}`},
		{"series?match[]=x&start=100", 200, `{"status":"success","data":[]}`},
		{"labels", 200, `{"status":"success","data":["__name__","instance"]}`},
		{"labels?limit=1", 200, `{"status":"success","data":["__name__"],"warnings":["results truncated due to limit"]}`},
		{"label/__name__/values", 200, `{"status":"success","data":["x","y"]}`},
		{"label/__name__/values?match[]=x", 200, `{"status":"success","data":["x"]}`},
		{"label/none/values", 200, `{"status":"success","data":[]}`},
		{"format_query?query=sum(x)by(a)", 200, `{"status":"success","data":"sum by (a) (x)"}`},
		{"metadata", 200, `{"status":"success","data":{}}`},
		{"rules", 200, `{"status":"success","data":{"groups":[]}}`},
		{"query?query=x{", 400, `"errorType":"bad_data","error":"line 1, column 3`},
		{"query?query=", 400, `"errorType":"bad_data","error":"the query is empty`},
		{"query?query=x&time=abc", 400, `"errorType":"bad_data","error":"invalid parameter \"time\"`},
		{"query?query=x&time=1e300", 400, `is not a time`},
		{"query?query=x&timeout=-1", 400, `invalid parameter \"timeout\"`},
		{"query?query=" + strings.Repeat("x%2B", 40_000), 400, `at most 32768 are allowed`},
		{"query?query={__name__=~\".%2B\"}&time=2", 200, `"result":[{`},
		{"query_range?query=x&start=1&end=4&step=0", 400, `"errorType":"bad_data","error":"the step is 0s`},
		{"query_range?query=x&start=4&end=1&step=1", 400, `before it starts`},
		{"query_range?query=x&start=1&end=20000&step=1", 400, `exceeded maximum resolution`},
		{"query_range?query=x&end=20000&step=1", 400, `start and end are required`},
		{"query_range?query=x[1m]&start=1&end=2&step=1", 400, `wrap it in a function`},
		{"series", 400, `no match[] parameter`},
		{"series?match[]=x{", 400, `"errorType":"bad_data"`},
		{"series?match[]=x&limit=-1", 400, `invalid parameter \"limit\"`},
		{"label/a%00b/values", 200, `"data":[]`},
	} {
		status, body := get(s, "/api/v1/"+tc.path)
		if status != tc.status || body != tc.wants && (tc.status == 200 && strings.HasPrefix(tc.wants, "{") || !strings.Contains(body, tc.wants)) {
			t.Errorf("%.80s: %d %.300s\nwant %d %s", tc.path, status, body, tc.status, tc.wants)
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%.80s: not JSON: %s", tc.path, body)
		}
	}
	if status, body := get(s, "/api/v1/status/buildinfo"); status != 200 || !strings.Contains(body, `"version":"3.`) {
		t.Errorf("build info: %d %s", status, body)
	}
	if status, _ := get(s, "/api/v1/nothing"); status != 404 {
		t.Errorf("an unknown path: %d", status)
	}
	if status, _ := get(s, "/-/ready"); status != 200 {
		t.Errorf("ready: %d", status)
	}
}

func TestQueryAPITakesForms(t *testing.T) {
	t.Parallel()
	s := apiSource(t, nil)
	post := func(body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/api/v1/query", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		s.QueryAPI().ServeHTTP(w, r)
		return w
	}
	if w := post("query=x&time=2"); w.Code != 200 || !strings.Contains(w.Body.String(), `[2,"2"]`) || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := post("query=" + strings.Repeat("x", 2<<20)); w.Code != 400 || !strings.Contains(w.Body.String(), "too large") {
		t.Errorf("a huge form: %d %.200s", w.Code, w.Body)
	}
}

func TestQueryAPILimitsSeries(t *testing.T) {
	t.Parallel()
	s := apiSource(t, func(c *Config) { c.Query.MaxSeries = 1 })
	for _, path := range []string{"query?time=2&query=", "query_range?start=1&end=2&step=1&query="} {
		status, body := get(s, "/api/v1/"+path+url.QueryEscape(`{__name__=~".+"}`))
		if status != 422 || !strings.Contains(body, "yields 2 series; at most 1 are allowed") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// An answer larger than what is held back is streamed, and whole.
func TestQueryAPIStreams(t *testing.T) {
	t.Parallel()
	s := setup(t, nil)
	var all []model.SeriesData
	for i := range 2000 {
		all = append(all, series("x", fmt.Sprintf("instance-%d", i), 1000, float64(i), 2000, float64(i)))
	}
	if err := s.Append(context.Background(), all); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"query?query=x&time=2", "query_range?query=x&start=1&end=2&step=1"} {
		status, body := get(s, "/api/v1/"+path)
		var doc struct {
			Data struct{ Result []json.RawMessage }
		}
		if err := json.Unmarshal([]byte(body), &doc); err != nil || status != 200 || len(doc.Data.Result) != 2000 || len(body) < 2*streamBytes {
			t.Errorf("%s: %d, %d series in %d bytes, %v", path, status, len(doc.Data.Result), len(body), err)
		}
	}
}

// The official client and our own read what we serve.
func TestQueryAPIFromClients(t *testing.T) {
	t.Parallel()
	s := apiSource(t, nil)
	srv := httptest.NewServer(http.StripPrefix("/prometheus", s.QueryAPI()))
	t.Cleanup(srv.Close)
	ctx := context.Background()
	client, err := promapi.NewClient(promapi.Config{Address: srv.URL + "/prometheus", RoundTripper: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	api := promv1.NewAPI(client)
	value, _, _, err := api.QueryRange(ctx, "x", promv1.Range{Start: time.Unix(1, 0), End: time.Unix(3, 0), Step: time.Second})
	if m, ok := value.(prommodel.Matrix); err != nil || !ok || len(m) != 1 || len(m[0].Values) != 3 {
		t.Errorf("range: %v, %v", value, err)
	}
	if names, _, _, err := api.LabelValues(ctx, "__name__", nil, time.Unix(0, 0), time.Unix(10, 0)); err != nil || len(names) != 2 {
		t.Errorf("label values: %v, %v", names, err)
	}
	if sets, _, _, err := api.Series(ctx, []string{"x", "y"}, time.Unix(0, 0), time.Unix(10, 0)); err != nil || len(sets) != 2 {
		t.Errorf("series: %v, %v", sets, err)
	}
	if info, err := api.Buildinfo(ctx); err != nil || info.Version == "" {
		t.Errorf("build info: %v, %v", info, err)
	}
	if targets, err := api.Targets(ctx); err != nil || len(targets.Active) != 1 {
		t.Errorf("targets: %v, %v", targets, err)
	}
	if _, err := api.Metadata(ctx, "", ""); err != nil {
		t.Errorf("metadata: %v", err)
	}

	own, err := prom.New(prom.Config{Source: model.Source{Name: "self", URL: srv.URL + "/prometheus"}}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for _, query := range []string{"x", "y", "sum(x)"} {
		here, err := s.QueryRange(ctx, query, time.Unix(1, 0), time.Unix(4, 0), 500*time.Millisecond, 0)
		if err != nil {
			t.Fatal(err)
		}
		there, err := own.QueryRange(ctx, query, time.Unix(1, 0), time.Unix(4, 0), 500*time.Millisecond, 0)
		if err != nil {
			t.Fatal(err)
		}
		if show(here) != show(there) || len(here) != 1 || here[0].Labels.Key() != there[0].Labels.Key() {
			t.Errorf("%s: here %q, over HTTP %q", query, show(here), show(there))
		}
	}
	if err := own.Check(ctx); err != nil {
		t.Error(err)
	}
}

func FuzzQueryAPI(f *testing.F) {
	for _, p := range []string{"query?query=x&time=2", "query_range?query=x&start=1&end=4&step=1", "series?match[]=x", "label/a/values", "labels?limit=1&start=x"} {
		f.Add(p)
	}
	cfg := Config{Dir: f.TempDir(), Host: HostConfig{Disabled: true}, Query: QueryConfig{Timeout: model.Duration(time.Second), MaxSamples: 100_000}}
	s, err := Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.Parse("/api/v1/" + path)
		if err != nil {
			t.Skip()
		}
		w := httptest.NewRecorder()
		s.QueryAPI().ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Body: http.NoBody})
		if w.Code == 500 {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		if ct := w.Header().Get("Content-Type"); ct == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s: not JSON: %s", path, w.Body)
		}
	})
}
