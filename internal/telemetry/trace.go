package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TraceConfig says where traces go. Without an Endpoint none are made.
type TraceConfig struct {
	Endpoint string            // of a collector that speaks OTLP over HTTP, such as http://collector:4318
	Headers  map[string]string // sent with each request; may hold secrets
	Ratio    float64           // share of traces that are recorded, 0 to 1
	Node     string            // names this process
}

// The bounds of sending traces. What does not fit is dropped: a collector that
// is away must not cost more than this.
const (
	traceQueue   = 2048 // spans that wait to be sent
	traceTimeout = 10 * time.Second
	traceStop    = 3 * time.Second // for the last spans when the program stops
)

// Tracing makes and sends spans. The nil Tracing makes none.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// NewTracing starts sending traces, or returns nil when c names no endpoint.
// It opens no connection. Failures of sending are logged, once a minute at
// most, because a collector may be away for long.
func NewTracing(c TraceConfig, log *slog.Logger) (*Tracing, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the OTLP endpoint has to be a URL such as http://collector:4318")
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(u.JoinPath("v1", "traces").String()),
		otlptracehttp.WithHeaders(c.Headers), otlptracehttp.WithTimeout(traceTimeout))
	if err != nil {
		return nil, fmt.Errorf("preparing to send traces: %w", err)
	}
	b := BuildInfo()
	sampler := sdktrace.TraceIDRatioBased(c.Ratio)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&quiet{SpanExporter: exporter, log: log}, sdktrace.WithMaxQueueSize(traceQueue), sdktrace.WithExportTimeout(traceTimeout)),
		// A client's own decision does not count, or anyone could fill the collector.
		sdktrace.WithSampler(sdktrace.ParentBased(sampler, sdktrace.WithRemoteParentSampled(sampler), sdktrace.WithRemoteParentNotSampled(sampler))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "aiops"), attribute.String("service.version", b.Version), attribute.String("service.instance.id", c.Node))),
	)
	return &Tracing{provider: provider, tracer: provider.Tracer("aiops")}, nil
}

// Stop sends what is left, within a few seconds.
func (t *Tracing) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, traceStop)
	defer cancel()
	_ = t.provider.Shutdown(bounded) // spans that cannot be sent are lost, and that was logged
	return nil
}

type tracingKey struct{}

// Context returns a context whose spans are recorded by t.
func (t *Tracing) Context(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, tracingKey{}, t)
}

// Start begins a span within that of ctx. End it in any case. Where no Tracing
// is in force it costs next to nothing and does nothing.
func Start(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	return start(ctx, name, trace.WithAttributes(attrs...))
}

func start(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	t, ok := ctx.Value(tracingKey{}).(*Tracing)
	if !ok {
		return ctx, trace.SpanFromContext(context.Background()) // one that does nothing
	}
	return t.tracer.Start(ctx, name, options...)
}

// StartRequest begins the span of a request that came with the given
// traceparent, which may be empty or wrong, and returns the traceparent to
// answer with and to send onward. fallback is that when nothing is traced.
func StartRequest(ctx context.Context, given, name, fallback string) (context.Context, trace.Span, string) {
	if _, ok := ctx.Value(tracingKey{}).(*Tracing); !ok {
		return parse(ctx, fallback), trace.SpanFromContext(context.Background()), fallback
	}
	ctx, span := start(parse(ctx, given), name, trace.WithSpanKind(trace.SpanKindServer))
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return ctx, span, carrier["traceparent"]
}

// parse puts the trace of a traceparent into ctx.
func parse(ctx context.Context, traceparent string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, parent(traceparent))
}

// parent is the headers of a request that has a traceparent and nothing else.
type parent string

// Get implements propagation.TextMapCarrier.
func (p parent) Get(key string) string {
	if key == "traceparent" {
		return string(p)
	}
	return ""
}

// Set implements propagation.TextMapCarrier. Nothing is written to it.
func (p parent) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (p parent) Keys() []string { return []string{"traceparent"} }

// quiet logs failures of sending instead of passing them on to OpenTelemetry's
// process-wide handler.
type quiet struct {
	sdktrace.SpanExporter
	log    *slog.Logger
	logged time.Time // only the batch processor's one goroutine uses it
}

// ExportSpans implements sdktrace.SpanExporter.
func (q *quiet) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.SpanExporter.ExportSpans(ctx, spans)
	if err != nil && time.Since(q.logged) > time.Minute {
		q.logged = time.Now()
		q.log.Warn("traces were not sent", "spans", len(spans), "err", err)
	}
	return nil
}

// Failed marks a span as failed, for a reason that is safe to show.
func Failed(span trace.Span, reason string) {
	if span.IsRecording() {
		span.SetStatus(codes.Error, reason)
	}
}
