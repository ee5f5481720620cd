package realtime

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	connections *prometheus.GaugeVec
	accepted    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	lag         prometheus.Histogram
	frames      prometheus.Counter
	bytes       prometheus.Counter
	dropped     prometheus.Counter
	coalesced   prometheus.Counter
	resumes     *prometheus.CounterVec
	resets      prometheus.Counter
	closes      *prometheus.CounterVec
	events      prometheus.Counter
	failures    prometheus.Counter
	longest     prometheus.Gauge
}

const (
	kindWebSocket = "websocket"
	kindSSE       = "sse"
)

func newMetrics(r prometheus.Registerer, g *Gateway) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "aiops_realtime_" + name, Help: help})
	}
	counters := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "aiops_realtime_" + name, Help: help}, []string{label})
		for _, value := range values {
			v.WithLabelValues(value).Add(0)
		}
		return v
	}
	m := &metrics{
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "aiops_realtime_connections", Help: "Open streams, by kind."}, []string{"kind"}),
		accepted:    counters("connections_accepted_total", "Streams opened, by kind.", "kind", kindWebSocket, kindSSE),
		refused:     counters("connections_refused_total", "Streams refused, by reason.", "reason", refusedOrigin, refusedAddress, refusedTotal, refusedRate, refusedStopping, refusedUnknown, refusedIdentity),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aiops_realtime_lag_seconds", Help: "Time from the commit of the oldest event of a frame to its write to a client, replayed frames excepted.",
			Buckets:                         prometheus.ExponentialBuckets(0.001, 2, 14),
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: 3600e9,
		}),
		frames:    counter("frames_written_total", "Frames written to clients."),
		bytes:     counter("written_bytes_total", "Bytes of messages written to clients."),
		dropped:   counter("frames_dropped_total", "Frames dropped because their client was cut off; it resumes from a cursor."),
		coalesced: counter("points_coalesced_total", "Live points replaced by a newer one before they were written."),
		resumes:   counters("resumes_total", "Subscriptions with a cursor, by where the missed events came from.", "from", fromNothing, fromMemory, fromStore),
		resets:    counter("resets_total", "Subscriptions whose cursor was too old or unknown."),
		closes:    counters("closes_total", "Streams closed, by code.", "code", "1000", "1001", "1006", "1012", "1013", "4401"),
		events:    counter("events_read_total", "Events read from the log."),
		failures:  counter("read_failures_total", "Failed reads of the log."),
		longest:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "aiops_realtime_queue_longest_frames", Help: "Length of the longest queue of a client when last looked at."}),
	}
	m.connections.WithLabelValues(kindWebSocket).Set(0)
	m.connections.WithLabelValues(kindSSE).Set(0)
	r.MustRegister(m.connections, m.accepted, m.refused, m.lag, m.frames, m.bytes, m.dropped, m.coalesced, m.resumes, m.resets, m.closes, m.events, m.failures, m.longest,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_realtime_queued_frames", Help: "Frames that wait for their clients."},
			func() float64 { return float64(g.queued.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "aiops_realtime_last_event_id", Help: "Number of the last event that was fanned out."},
			func() float64 { return float64(g.position.Load()) }))
	return m
}

// closed counts the end of a stream. A code that a client made up is counted
// as other, so that it cannot invent series.
func (m *metrics) closed(code int) {
	label := "other"
	if code >= 1000 && code <= 1015 || code == closeUnauthorized || code == closeForbidden || code == closeTooMany {
		label = strconv.Itoa(code)
	}
	m.closes.WithLabelValues(label).Inc()
}
