package api

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
)

// The most that serving one kept answer may allocate, from the first layer to
// the line in the access log, net/http left out. A quarter more than was seen.
const mostKeptAllocations = 32

// discarded is an answer that goes nowhere.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header { return d.header }

func (d *discarded) WriteHeader(status int) { d.status = status }

func (d *discarded) Write(p []byte) (int, error) {
	if d.status == 0 {
		d.status = http.StatusOK
	}
	return len(p), nil
}

// detectorRead returns how to serve one read with all layers, and its answer.
// Without keep it is made each time.
func detectorRead(tb testing.TB, keep bool) (serve func() int, answer *httptest.ResponseRecorder) {
	tb.Helper()
	o := newWorld().options()
	o.Auth, o.Logger = nil, slog.New(slog.NewJSONHandler(io.Discard, nil))
	if keep {
		o.Responses = NewResponses(ResponsesConfig{}, nil)
		o.Responses.now = o.Now // which stands still, so nothing gets old
	}
	h, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/api/v1/detectors/det_1", nil)
	h.ServeHTTP(httptest.NewRecorder(), r)
	answer = httptest.NewRecorder()
	h.ServeHTTP(answer, r)
	if hit := answer.Header().Get("Cache-Status") != ""; answer.Code != http.StatusOK || hit != keep {
		tb.Fatalf("%d %v", answer.Code, answer.Header())
	}
	w := &discarded{header: http.Header{}}
	return func() int {
		clear(w.header)
		w.status = 0
		h.ServeHTTP(w, r)
		return w.status
	}, answer
}

func TestAKeptReadAllocatesLittle(t *testing.T) {
	count := func(keep bool) float64 {
		serve, _ := detectorRead(t, keep)
		return testing.AllocsPerRun(200, func() {
			if status := serve(); status != http.StatusOK {
				t.Fatal(status)
			}
		})
	}
	kept, made := count(true), count(false)
	t.Logf("kept %.0f, made each time %.0f", kept, made)
	if kept > mostKeptAllocations {
		t.Errorf("a kept read makes %.0f allocations, want at most %d", kept, mostKeptAllocations)
	}
	if made <= mostKeptAllocations {
		t.Errorf("a read that is not kept makes %.0f allocations: the bound finds nothing", made)
	}
}

// BenchmarkKeptRead compares all layers with a handler that sends the same
// fields and bytes, both without net/http's server.
func BenchmarkKeptRead(b *testing.B) {
	serve, answer := detectorRead(b, true)
	b.Run("chain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			serve()
		}
	})
	b.Run("bare", func(b *testing.B) {
		w := &discarded{header: http.Header{}}
		body := answer.Body.Bytes()
		b.ReportAllocs()
		for b.Loop() {
			clear(w.header)
			for name, values := range answer.Header() {
				w.header[name] = values
			}
			_, _ = w.Write(body)
		}
	})
}
