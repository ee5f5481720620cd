package bench

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestOpenLoopCountsWhatComesBack asks a server whose every answer is known.
func TestOpenLoopCountsWhatComesBack(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/refused":
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/broken":
			w.WriteHeader(http.StatusServiceUnavailable) // without saying when to come back
		case "/hung":
			<-hang
		default:
			w.Header().Set("Content-Length", "2")
			_, _ = w.Write([]byte("ok"))
		}
	}))
	defer server.Close()
	defer close(hang)
	r := openLoop(t.Context(), strings.TrimPrefix(server.URL, "http://"), []string{"GET /", "GET /refused", "GET /broken", "GET /hung"}, 100, 100, 2*time.Second, time.Second)
	if r.Served+r.Refused+r.Failed != 200 || r.Failed < 100 {
		t.Errorf("%+v; want 200 in all, of which half fail", r)
	}
	if r.Served < 25 || r.Refused < 25 || r.P50 <= 0 || r.P50 > r.P95 || r.P95 > r.P99 {
		t.Errorf("%+v", r)
	}
}

// TestOpenLoopDoesNotWait is the control: a server that is slower than it is
// asked has to show as late answers, not as fewer questions.
func TestOpenLoopDoesNotWait(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	place := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		place <- struct{}{}
		defer func() { <-place }()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Length", "0")
	}))
	defer server.Close()
	r := openLoop(t.Context(), strings.TrimPrefix(server.URL, "http://"), []string{"GET /"}, 50, 100, time.Second, 500*time.Millisecond)
	if r.Failed == 0 || r.P99 < 100 || r.Served+r.Failed != 100 {
		t.Errorf("%+v after %d questions: twenty a second can be served of a hundred", r, asked.Load())
	}
}

func TestLoadReportPrints(t *testing.T) {
	t.Parallel()
	r := LoadReport{Pinned: true, Overload: []LoadOverload{{Factor: 2, Share: LoadSpread{0.95, 0.9, 0.99}}}, Control: LoadOverload{Factor: 5, Share: LoadSpread{Median: 0.1}}}
	var table, text bytes.Buffer
	if err := r.WriteTable(&table); err != nil || !strings.Contains(table.String(), "limiter off") || !strings.Contains(table.String(), "95 (90 to 99) %") {
		t.Errorf("%v\n%s", err, table.String())
	}
	if err := r.WriteJSON(&text); err != nil || !strings.Contains(text.String(), `"control_without_limiter"`) {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// TestSharesAreOfThePeaksBesideThem: a machine that becomes slower while it is
// measured changes no share, and one odd slice does not decide.
func TestSharesAreOfThePeaksBesideThem(t *testing.T) {
	t.Parallel()
	slice := func(before, goodput, after, cpu float64) LoadSlice {
		return LoadSlice{Before: LoadPeak{before, 1}, After: LoadPeak{after, 1}, CPU: cpu,
			Requests: LoadResult{Goodput: goodput, Failed: 1, RefusedP99: goodput}, Livez: LoadResult{Refused: 2}, Control: LoadResult{Failed: 3}}
	}
	o := LoadOverload{Slices: []LoadSlice{slice(1000, 720, 600, 1), slice(600, 450, 400, 0.5), slice(400, 100, 400, 1)}}
	o.sum()
	if o.Share != (LoadSpread{0.9, 0.25, 0.9}) || o.ShareOfCPU != (LoadSpread{0.9, 0.25, 1.8}) || o.RefusedP99 != (LoadSpread{450, 100, 720}) {
		t.Errorf("%+v", o)
	}
	if o.Failed != 3 || o.Lost != 15 {
		t.Errorf("%d failed, %d lost", o.Failed, o.Lost)
	}
}

// TestRatiosAreOfOneMachine: a machine that halves its speed in the middle
// changes no ratio.
func TestRatiosAreOfOneMachine(t *testing.T) {
	t.Parallel()
	kept, bare := []float64{600, 620, 300, 290, 310}, []float64{1000, 1000, 500, 500, 500}
	if r := ratios(kept, bare); r != (LoadSpread{0.6, 0.58, 0.62}) {
		t.Errorf("%+v, want 0.6 (0.58 to 0.62)", r)
	}
}

// TestTheSlowerOfTwoIsSeen: a server that makes each client wait is far behind
// one that does not, and the same server beside itself is not.
func TestTheSlowerOfTwoIsSeen(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-time.After(500 * time.Millisecond) // eight answers a second, far fewer than the busiest machine gives
		}
		w.Header().Set("Content-Length", "2")
		_, _ = w.Write([]byte("ok"))
	}))
	defer server.Close()
	compare := func(path string, n int) float64 {
		s := &loadServer{address: strings.TrimPrefix(server.URL, "http://")}
		a, b := newKeptSide(s, path), newKeptSide(s, "/")
		a.conns, b.conns = a.conns[:4], b.conns[:4]
		defer a.close()
		defer b.close()
		inTurn(t.Context(), a, b, n, 40*time.Millisecond)
		if len(a.rates) != n || len(b.rates) != n || b.served == 0 {
			t.Fatalf("%+v beside %+v", a, b)
		}
		return ratios(a.rates, b.rates).Median
	}
	if same := compare("/", 15); same < 0.3 || same > 3 {
		t.Errorf("a server is %.2f times as fast as itself", same)
	}
	if slow := compare("/slow", 5); slow > 0.3 {
		t.Errorf("the slow one is %.2f times as fast", slow)
	}
}
