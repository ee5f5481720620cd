package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// fakeCollector takes what an OpenTelemetry collector would.
func fakeCollector(t *testing.T) (url string, got <-chan *collector.ExportTraceServiceRequest, headers <-chan http.Header) {
	t.Helper()
	requests, seen := make(chan *collector.ExportTraceServiceRequest, 16), make(chan http.Header, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &req) != nil {
			t.Errorf("%s: %d bytes, %v", r.URL, len(body), err)
		}
		requests <- &req
		seen <- r.Header
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	return server.URL, requests, seen
}

func TestTracesArrive(t *testing.T) {
	t.Parallel()
	url, got, headers := fakeCollector(t)
	tracing, err := NewTracing(TraceConfig{Endpoint: url, Headers: map[string]string{"X-Key": "k"}, Ratio: 1, Node: "n1"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	const client = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	ctx, span, answer := StartRequest(tracing.Context(context.Background()), client, "GET", "")
	if !strings.HasPrefix(answer, "00-0af7651916cd43dd8448eb211c80319c-") || !strings.HasSuffix(answer, "-01") || strings.Contains(answer, "b7ad6b7169203331") {
		t.Errorf("traceparent %q, want the client's trace, our span, recorded", answer)
	}
	_, child := Start(ctx, "score")
	Failed(child, "no data")
	child.End()
	span.End()
	if err := tracing.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	select {
	case req := <-got:
		spans := req.ResourceSpans[0].ScopeSpans[0].Spans
		if len(spans) != 2 || spans[0].Name != "score" || spans[1].Name != "GET" || !bytes.Equal(spans[0].ParentSpanId, spans[1].SpanId) {
			t.Errorf("spans %v", spans)
		}
		if h := <-headers; h.Get("X-Key") != "k" {
			t.Errorf("headers %v", h)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing arrived")
	}
}

func TestNothingIsTracedUnlessConfigured(t *testing.T) {
	t.Parallel()
	none, err := NewTracing(TraceConfig{}, slog.New(slog.DiscardHandler))
	if none != nil || err != nil {
		t.Fatalf("%v, %v", none, err)
	}
	const fallback = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	ctx, span, answer := StartRequest(none.Context(context.Background()), "nonsense", "GET", fallback)
	if span.IsRecording() || answer != fallback || trace.SpanContextFromContext(ctx).TraceID().String() != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("%v, %q", span.SpanContext(), answer)
	}
	if _, child := Start(ctx, "score"); child.IsRecording() {
		t.Error("a span is recorded")
	}
	if err := none.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"collector:4318", "ftp://x", "http://", "\x00"} {
		if _, err := NewTracing(TraceConfig{Endpoint: bad}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("endpoint %q is accepted", bad)
		}
	}
}

// A collector that is away costs nothing but a line in the log.
func TestACollectorThatIsAway(t *testing.T) {
	t.Parallel()
	var logs bytes.Buffer
	tracing, err := NewTracing(TraceConfig{Endpoint: "http://127.0.0.1:1", Ratio: 1}, slog.New(slog.NewJSONHandler(&logs, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span, _ := StartRequest(tracing.Context(context.Background()), "", "GET", "")
	span.End()
	if err := tracing.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(logs.String(), "traces were not sent") {
		t.Errorf("log: %s", logs.String())
	}
}

func TestLogLinesNameTheirRequest(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := NewLogger(LogConfig{Format: "json"}, &out, new(slog.LevelVar))
	ctx, _, _ := StartRequest(WithRequestID(context.Background(), "req_12345678"), "", "", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
	log.With("component", "x").InfoContext(ctx, "one")
	log.LogAttrs(ctx, slog.LevelInfo, "two", slog.String("request_id", "req_12345678"))
	log.Info("three")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"request_id":"req_12345678","trace_id":"0af7651916cd43dd8448eb211c80319c"`) ||
		strings.Count(lines[1], "request_id") != 1 || strings.Contains(lines[2], "_id") {
		t.Errorf("%s", out.String())
	}
}
