package app

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/api"
	"aiops/internal/space"
	"aiops/internal/telemetry"
)

// requestMetrics measures what the API serves. Routes are patterns and
// methods are known ones, so the number of series is bounded.
type requestMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	routes   *prometheus.HistogramVec
	panics   prometheus.Counter

	mu    sync.Mutex // taken to change known
	known atomic.Pointer[map[served]*instruments]
}

// served is a kind of request, as far as labels tell. There are as many as
// there are routes, known methods and statuses.
type served struct {
	class         api.Class
	method, route string
	status        int
}

// instruments are what measures one kind of request.
type instruments struct {
	requests         prometheus.Counter
	duration, routes prometheus.Observer
}

func newRequestMetrics(r prometheus.Registerer) *requestMetrics {
	m := &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_api_requests_total", Help: "Requests served, by class, route and status.",
		}, []string{"class", "method", "route", "status"}),
		duration: prometheus.NewHistogramVec(telemetry.Histogram("aiops_api_request_duration_seconds",
			"Time to serve a request, by class.", prometheus.ExponentialBuckets(0.001, 2, 14)...), []string{"class"}),
		// Native only: with bounds, the routes alone would fill /metrics.
		routes: prometheus.NewHistogramVec(telemetry.Histogram("aiops_api_route_duration_seconds",
			"Time to serve a request, by route; a native histogram."), []string{"method", "route"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aiops_api_panics_total", Help: "Requests that panicked and were answered with INTERNAL_ERROR.",
		}),
	}
	r.MustRegister(m.requests, m.duration, m.routes, m.panics)
	// A rate is known from the first error on only when the series was there before.
	m.requests.WithLabelValues(string(api.ClassRead), http.MethodGet, "/api/v1/detectors", "500").Add(0)
	return m
}

func (m *requestMetrics) observe(ctx context.Context, r api.Request) {
	in := m.of(served{r.Class, r.Method, r.Route, r.Status})
	in.requests.Inc()
	telemetry.Observe(ctx, in.duration, r.Duration.Seconds())
	telemetry.Observe(ctx, in.routes, r.Duration.Seconds())
}

// of finds what measures a kind of request. The labels are looked up once:
// each look costs as much as the rest of the measurement.
func (m *requestMetrics) of(s served) *instruments {
	if known := m.known.Load(); known != nil {
		if in := (*known)[s]; in != nil {
			return in
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := map[served]*instruments{}
	if known := m.known.Load(); known != nil {
		maps.Copy(next, *known)
	}
	in := &instruments{m.requests.WithLabelValues(string(s.class), s.method, s.route, strconv.Itoa(s.status)),
		m.duration.WithLabelValues(string(s.class)), m.routes.WithLabelValues(s.method, s.route)}
	next[s] = in
	m.known.Store(&next)
	return in
}

// refused counts a GET that a connection refused by itself. How long that took
// is not measured: a zero would make the others look fast.
func (m *requestMetrics) refused(c api.Class) {
	m.of(served{c, http.MethodGet, api.Refused, http.StatusServiceUnavailable}).requests.Inc()
}

func (m *requestMetrics) panicked(string) { m.panics.Inc() }

// measureDisk registers how full the disk of the data directory is.
func measureDisk(r prometheus.Registerer, disk *space.Watch) error {
	return r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_app_disk_used_ratio",
		Help: "Share of the data directory's file system that is used; 0 when it is not known."}, func() float64 {
		usage, err := disk.Usage()
		if err != nil {
			return 0
		}
		return usage.UsedShare
	}))
}
