package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config says how the shop behaves.
type Config struct {
	Seed uint64        // of load and faults
	Day  time.Duration // length of a day and night; default 10 min
	Rate float64       // shoppers a second at noon; default 25
	Logs io.Writer     // receives the services' log lines; default: discarded
	Push string        // URL of a Loki push API that receives them, too; "": none
	Key  func() string // what the push API asks for as a bearer token; nil, or "": nothing
}

// Target is a service's metrics endpoint.
type Target struct {
	Job string
	URL string
}

// leakLimit bounds the memory of the leak fault.
const leakLimit = 64 << 20

// Shop is the running shop. New makes it listen; Run serves.
type Shop struct {
	config   Config
	services []*service
	front    *service
	client   *http.Client
	registry *prometheus.Registry
	active   *prometheus.GaugeVec
	begins   *prometheus.GaugeVec
	ends     *prometheus.GaugeVec

	fault   atomic.Value // Fault
	logs    atomic.Value // Fault that only logs show
	news    atomic.Int64 // how often FaultLogError was on
	pusher  *pusher      // nil: lines are not pushed
	orders  chan struct{}
	shipped prometheus.Counter

	mu       sync.Mutex
	schedule []Window
	quiet    []Window // of the faults that only logs show
	started  time.Time
	leaked   [][]byte
}

// service is one HTTP service of the shop.
type service struct {
	name     string
	listener net.Listener
	server   *http.Server
	log      *slog.Logger
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	memory   prometheus.Gauge
}

// New makes the shop and lets its services listen on loopback ports of the
// system's choice. Nothing is served before Run; Run must be called, or the
// ports stay taken.
func New(c Config) (*Shop, error) {
	if c.Day <= 0 {
		c.Day = 10 * time.Minute
	}
	if c.Rate <= 0 {
		c.Rate = 25
	}
	if c.Logs == nil {
		c.Logs = io.Discard
	}
	s := &Shop{
		config:   c,
		client:   &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 128}},
		registry: prometheus.NewRegistry(),
		orders:   make(chan struct{}, 1024),
		active:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "demo_fault_active", Help: "1 while a fault of this kind is on."}, []string{"fault", "service"}),
		begins:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "demo_fault_start_time_seconds", Help: "When the last fault of this kind began, in seconds since the Unix epoch."}, []string{"fault", "service"}),
		ends:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "demo_fault_end_time_seconds", Help: "When the last fault of this kind ended, in seconds since the Unix epoch."}, []string{"fault", "service"}),
		shipped:  prometheus.NewCounter(prometheus.CounterOpts{Name: "shop_orders_shipped_total", Help: "Orders that left the house."}),
	}
	s.schedule, s.quiet = Schedule(c.Seed, 24*time.Hour), LogSchedule(c.Seed, 24*time.Hour)
	s.fault.Store(Fault(""))
	s.logs.Store(Fault(""))
	if c.Push != "" {
		s.pusher = &pusher{url: c.Push, key: c.Key, client: s.client}
	}
	s.registry.MustRegister(s.active, s.begins, s.ends, s.shipped)
	for _, f := range []Fault{FaultLatency, FaultErrors, FaultTraffic, FaultSilent, FaultCPU, FaultLeak, FaultLogError, FaultLogBurst, FaultLogSilent} {
		s.active.WithLabelValues(string(f), f.service()).Set(0)
	}
	for _, part := range []struct {
		name    string
		handler http.HandlerFunc
	}{{"front", s.serveFront}, {"cart", s.serveCart}, {"payment", s.servePayment}, {"stock", s.serveStock}} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.close()
			return nil, fmt.Errorf("opening the demo's %s service: %w", part.name, err)
		}
		s.services = append(s.services, s.newService(part.name, listener, s.logger(part.name), part.handler))
	}
	s.front = s.services[0]
	return s, nil
}

// logger writes the lines of one service, unless it has fallen silent.
func (s *Shop) logger(service string) *slog.Logger {
	out := s.config.Logs
	if s.pusher != nil {
		out = s.pusher.stream(service, out)
	}
	return slog.New(silencer{slog.NewJSONHandler(out, nil), func() bool { return service == FaultLogSilent.service() && s.onLogs(FaultLogSilent) }}).With("service", service)
}

// silencer drops lines while silent.
type silencer struct {
	slog.Handler
	silent func() bool
}

// Handle implements slog.Handler.
func (h silencer) Handle(ctx context.Context, r slog.Record) error {
	if h.silent() {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h silencer) WithAttrs(attrs []slog.Attr) slog.Handler {
	return silencer{h.Handler.WithAttrs(attrs), h.silent}
}

// WithGroup implements slog.Handler.
func (h silencer) WithGroup(name string) slog.Handler {
	return silencer{h.Handler.WithGroup(name), h.silent}
}

func (s *Shop) newService(name string, listener net.Listener, log *slog.Logger, handler http.HandlerFunc) *service {
	labels := prometheus.Labels{"service": name}
	v := &service{
		name: name, listener: listener, log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "shop_requests_total", Help: "Requests answered, by status class.", ConstLabels: labels}, []string{"status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "shop_request_duration_seconds", Help: "Time to answer a request.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.001, 1.5, 20),
		}, nil),
		memory: prometheus.NewGauge(prometheus.GaugeOpts{Name: "shop_memory_bytes", Help: "Memory the service holds.", ConstLabels: labels}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(v.requests, v.duration, v.memory)
	v.requests.WithLabelValues("5xx").Add(0)
	v.requests.WithLabelValues("2xx").Add(0)
	v.memory.Set(8 << 20)
	gatherers := prometheus.Gatherers{registry}
	if name == "front" {
		gatherers = append(gatherers, s.registry)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", v.measure(handler))
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{}))
	if name == "front" {
		mux.HandleFunc("GET /faults", s.serveFaults)
	}
	v.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return v
}

func (s *Shop) close() {
	for _, v := range s.services {
		v.listener.Close()
	}
}

// Targets lists the endpoints to scrape.
func (s *Shop) Targets() []Target {
	var out []Target
	for _, v := range s.services {
		out = append(out, Target{Job: v.name, URL: "http://" + v.listener.Addr().String() + "/metrics"})
	}
	return out
}

// Run serves the shop, sends it shoppers and breaks it on schedule until ctx
// ends; everything it started has then stopped.
func (s *Shop) Run(ctx context.Context) error {
	s.mu.Lock()
	s.started = time.Now()
	s.mu.Unlock()
	var parts sync.WaitGroup
	errs := make(chan error, len(s.services))
	for _, v := range s.services {
		parts.Go(func() {
			if err := v.server.Serve(v.listener); !errors.Is(err, http.ErrServerClosed) {
				errs <- fmt.Errorf("serving the demo's %s: %w", v.name, err)
			}
		})
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	parts.Go(func() { s.breakThings(inner) })
	parts.Go(func() { s.ship(inner) })
	parts.Go(func() { s.sendShoppers(inner) })
	if s.pusher != nil {
		parts.Go(func() { s.pusher.run(inner) })
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	cancel()
	for _, v := range s.services {
		bound, stop := context.WithTimeout(context.Background(), 2*time.Second)
		if v.server.Shutdown(bound) != nil {
			v.server.Close()
		}
		stop()
	}
	s.client.CloseIdleConnections()
	parts.Wait()
	return err
}

// on reports whether a fault is on now.
func (s *Shop) on(f Fault) bool { return s.fault.Load().(Fault) == f }

// onLogs is on for the faults that only logs show.
func (s *Shop) onLogs(f Fault) bool { return s.logs.Load().(Fault) == f }

// breakThings turns faults on and off by the schedule.
func (s *Shop) breakThings(ctx context.Context) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			was, is := s.fault.Load().(Fault), active(s.schedule, now.Sub(s.started))
			if was != is {
				s.change(&s.fault, was, is, now)
			}
			if was, is := s.logs.Load().(Fault), active(s.quiet, now.Sub(s.started)); was != is {
				if is == FaultLogError {
					s.news.Add(1)
				}
				s.change(&s.logs, was, is, now)
			}
			s.suffer(is)
		}
	}
}

func (s *Shop) change(lane *atomic.Value, was, is Fault, now time.Time) {
	at := float64(now.UnixMilli()) / 1000
	if was != "" {
		s.active.WithLabelValues(string(was), was.service()).Set(0)
		s.ends.WithLabelValues(string(was), was.service()).Set(at)
	}
	if is != "" {
		s.active.WithLabelValues(string(is), is.service()).Set(1)
		s.begins.WithLabelValues(string(is), is.service()).Set(at)
	}
	lane.Store(is)
	if was == FaultLeak {
		s.mu.Lock()
		s.leaked = nil
		s.mu.Unlock()
		s.services[1].memory.Set(8 << 20)
	}
}

// suffer does the part of a fault that goes on beside requests.
func (s *Shop) suffer(f Fault) {
	switch f {
	case FaultCPU:
		for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
			for i := range 20000 {
				_ = math.Sqrt(float64(i))
			}
		}
	case FaultLeak:
		s.mu.Lock()
		size := len(s.leaked) << 20
		if size < leakLimit {
			block := make([]byte, 1<<20)
			for i := 0; i < len(block); i += 4096 {
				block[i] = 1
			}
			s.leaked = append(s.leaked, block)
		}
		s.mu.Unlock()
		s.services[1].memory.Set(float64(8<<20 + size))
	}
}

// ship works off orders, as a stock room does; a silent outage leaves them.
func (s *Shop) ship(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.orders:
			if s.on(FaultSilent) {
				continue
			}
			s.shipped.Inc()
		}
	}
}

// sendShoppers sends requests at the rate of the time of day. Arrivals are
// random; at most 200 are on their way at a time, and further ones are lost,
// as impatient shoppers are.
func (s *Shop) sendShoppers(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.config.Seed, 2))
	var visits sync.WaitGroup
	defer visits.Wait()
	places := make(chan struct{}, 200)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		rate := Rate(time.Since(s.started), s.config.Day, s.config.Rate)
		if s.on(FaultTraffic) {
			rate /= 5
		}
		timer.Reset(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		select {
		case places <- struct{}{}:
		default:
			continue
		}
		visits.Go(func() {
			defer func() { <-places }()
			_ = s.call(ctx, s.front)
		})
	}
}

// Rate is the rate of shoppers at an offset into the demo: a smooth day
// between 40 % and 100 % of noon, beginning in the morning.
func Rate(offset, day time.Duration, noon float64) float64 {
	phase := 2 * math.Pi * float64(offset) / float64(day)
	return noon * (0.7 + 0.3*math.Sin(phase))
}

// call asks a service to do its work.
func (s *Shop) call(ctx context.Context, v *service) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.listener.Addr().String()+"/work", nil)
	if err != nil {
		return err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16)); err != nil {
		return err
	}
	if response.StatusCode >= 500 {
		return fmt.Errorf("%s answered %d", v.name, response.StatusCode)
	}
	return nil
}

// measure wraps a service's work with its metrics and its log line.
func (v *service) measure(work http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		work(recorder, r)
		took := time.Since(began)
		v.requests.WithLabelValues(fmt.Sprintf("%dxx", recorder.status/100)).Inc()
		v.duration.WithLabelValues().Observe(took.Seconds())
		if recorder.status >= 500 {
			v.log.Error("request failed", "status", recorder.status, "duration_ms", took.Milliseconds(), "request", rand.Uint32())
			return
		}
		v.log.Info("request served", "status", recorder.status, "duration_ms", took.Milliseconds(), "request", rand.Uint32())
	}
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status.
func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}
