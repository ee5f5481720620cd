package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheScheduleLeavesTimeToLearnAndShowsEveryFault(t *testing.T) {
	t.Parallel()
	windows := Schedule(7, 30*time.Minute)
	if windows[0].Start < time.Minute || windows[0].Start > 2*time.Minute {
		t.Errorf("the first fault begins after %s", windows[0].Start)
	}
	seen := map[Fault]bool{}
	for i, w := range windows {
		seen[w.Fault] = true
		if i > 0 && w.Start < windows[i-1].End+30*time.Second {
			t.Errorf("%s begins %s after the end of %s", w.Fault, w.Start-windows[i-1].End, windows[i-1].Fault)
		}
		if got := active(windows, w.Start+w.End/2-w.Start/2); got != w.Fault {
			t.Errorf("in the middle of %s, %q is on", w.Fault, got)
		}
	}
	if len(seen) != 6 {
		t.Errorf("faults seen: %v", seen)
	}
	if active(windows, 0) != "" {
		t.Error("a fault is on at the start")
	}
}

// buffer is a bytes.Buffer for several writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// eventually waits for a condition, asking every 20 ms for at most 10 s.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain for: %s", what)
		case <-tick.C:
		}
	}
}

func TestTheShopServesExportsAndBreaks(t *testing.T) {
	t.Parallel()
	var logs buffer
	shop, err := New(Config{Seed: 1, Rate: 200, Logs: &logs})
	if err != nil {
		t.Fatal(err)
	}
	shop.schedule = []Window{{FaultErrors, 2 * time.Second, time.Minute}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shop.Run(ctx) }()

	front := shop.Targets()[0].URL
	eventually(t, "orders are shipped", func() bool {
		m := get(t, front)
		return strings.Contains(m, "shop_orders_shipped_total ") && !strings.Contains(m, "shop_orders_shipped_total 0")
	})
	cart := shop.Targets()[1].URL
	eventually(t, "cart fails", func() bool {
		return strings.Contains(get(t, front), `demo_fault_active{fault="errors",service="cart"} 1`) &&
			!strings.Contains(get(t, cart), `shop_requests_total{service="cart",status="5xx"} 0`)
	})
	eventually(t, "cart complains", func() bool { return strings.Contains(logs.String(), "cart store refused the connection") })

	var faults []struct{ Fault Fault }
	if err := json.Unmarshal([]byte(get(t, strings.Replace(front, "/metrics", "/faults", 1))), &faults); err != nil || len(faults) == 0 || faults[0].Fault != FaultErrors {
		t.Errorf("%d faults listed, error %v", len(faults), err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestALeakIsBoundedAndGivenBack(t *testing.T) {
	t.Parallel()
	shop, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer shop.close()
	for range 100 {
		shop.suffer(FaultLeak)
	}
	if got := len(shop.leaked) << 20; got != leakLimit {
		t.Errorf("leaked %d bytes, want %d", got, leakLimit)
	}
	shop.change(&shop.fault, FaultLeak, "", time.Now())
	if shop.leaked != nil {
		t.Error("the leak was not given back")
	}
}

func TestLogFaultsLieBetweenTheOthers(t *testing.T) {
	t.Parallel()
	others := Schedule(3, time.Hour)
	quiet := LogSchedule(3, time.Hour)
	if len(quiet) < 30 || quiet[0].Fault != FaultLogError || quiet[1].Fault != FaultLogBurst || quiet[2].Fault != FaultLogSilent {
		t.Fatalf("the schedule is %v", quiet[:min(3, len(quiet))])
	}
	for _, q := range quiet {
		for _, o := range others {
			if q.Start < o.End && o.Start < q.End {
				t.Errorf("%v overlaps %v", q, o)
			}
		}
	}
}
