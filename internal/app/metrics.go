package app

import (
	"context"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"aiops/internal/api"
)

// requestMetrics measures what the API serves. Routes are patterns and
// methods are known ones, so the number of series is bounded.
type requestMetrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	panics   prometheus.Counter
}

func newRequestMetrics(r prometheus.Registerer) *requestMetrics {
	m := &requestMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aiops_api_requests_total", Help: "Requests served, by class, route and status.",
		}, []string{"class", "method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "aiops_api_request_duration_seconds", Help: "Time to serve a request, by class.",
			Buckets:                         prometheus.ExponentialBuckets(0.001, 2, 14),
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: 3600e9,
		}, []string{"class"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "aiops_api_panics_total", Help: "Requests that panicked and were answered with INTERNAL_ERROR.",
		}),
	}
	r.MustRegister(m.requests, m.duration, m.panics)
	// A rate is known from the first error on only when the series was there before.
	m.requests.WithLabelValues(string(api.ClassRead), http.MethodGet, "/api/v1/detectors", "500").Add(0)
	return m
}

func (m *requestMetrics) observe(_ context.Context, r api.Request) {
	m.requests.WithLabelValues(string(r.Class), r.Method, r.Route, strconv.Itoa(r.Status)).Inc()
	m.duration.WithLabelValues(string(r.Class)).Observe(r.Duration.Seconds())
}

func (m *requestMetrics) panicked(string) { m.panics.Inc() }
