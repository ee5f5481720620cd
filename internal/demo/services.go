package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// pause waits as work does: d give or take a third.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(time.Duration(float64(d) * (0.67 + 0.66*rand.Float64())))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// serveFront sells: it fills a cart and pays.
func (s *Shop) serveFront(w http.ResponseWriter, r *http.Request) {
	pause(r.Context(), 3*time.Millisecond)
	for _, v := range s.services[1:3] {
		if err := s.call(r.Context(), v); err != nil {
			http.Error(w, "try again later", http.StatusBadGateway)
			return
		}
	}
	fmt.Fprintln(w, "thank you")
}

// serveCart reserves goods.
func (s *Shop) serveCart(w http.ResponseWriter, r *http.Request) {
	pause(r.Context(), 4*time.Millisecond)
	if s.on(FaultErrors) && rand.IntN(3) == 0 {
		s.services[1].log.Error("cart store refused the connection", "attempt", rand.IntN(3)+1, "shard", rand.IntN(16))
		http.Error(w, "cart is not available", http.StatusInternalServerError)
		return
	}
	if err := s.call(r.Context(), s.services[3]); err != nil {
		http.Error(w, "stock is not available", http.StatusBadGateway)
		return
	}
	fmt.Fprintln(w, "reserved")
}

// servePayment takes the money.
func (s *Shop) servePayment(w http.ResponseWriter, r *http.Request) {
	pause(r.Context(), 8*time.Millisecond)
	if s.on(FaultLatency) {
		s.services[2].log.Warn("bank answers slowly", "bank", rand.IntN(8), "waited_ms", 300+rand.IntN(50))
		pause(r.Context(), 300*time.Millisecond)
	}
	if s.onLogs(FaultLogError) && rand.IntN(3) == 0 {
		s.services[2].log.Error(newErrors[int(s.news.Load())%len(newErrors)], "bank", rand.IntN(8))
	}
	fmt.Fprintln(w, "paid")
}

// newErrors are what payment never said before, another one each time.
var newErrors = [...]string{
	"certificate of the card network is not trusted", "settlement file has a wrong checksum", "currency table is older than a day",
	"signature of the bank cannot be verified", "limit of open transfers is reached", "ledger refuses a booking in the past",
	"key of the terminal was revoked", "clearing house closed the session",
}

// serveStock takes an order for shipping; when the queue is full the order is
// refused.
func (s *Shop) serveStock(w http.ResponseWriter, r *http.Request) {
	pause(r.Context(), 2*time.Millisecond)
	retries := 0
	if s.onLogs(FaultLogBurst) {
		retries = 8
	} else if rand.IntN(10) == 0 {
		retries = 1
	}
	for range retries {
		s.services[3].log.Info("reservation retried", "shelf", rand.IntN(400), "attempt", rand.IntN(3)+1)
	}
	select {
	case s.orders <- struct{}{}:
		fmt.Fprintln(w, "ordered")
	default:
		http.Error(w, "too many orders", http.StatusServiceUnavailable)
	}
}

// serveFaults lists the true times of the faults of the next hour and of
// those so far, so that anyone can check what was found.
func (s *Shop) serveFaults(w http.ResponseWriter, _ *http.Request) {
	type row struct {
		Fault   Fault     `json:"fault"`
		Service string    `json:"service"`
		Start   time.Time `json:"start"`
		End     time.Time `json:"end"`
		Active  bool      `json:"active"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := []row{}
	now := time.Now()
	for _, f := range append(append([]Window(nil), s.schedule...), s.quiet...) {
		start, end := s.started.Add(f.Start), s.started.Add(f.End)
		if start.Before(now.Add(time.Hour)) {
			rows = append(rows, row{f.Fault, f.Fault.service(), start, end, !now.Before(start) && now.Before(end)})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(rows)
}
