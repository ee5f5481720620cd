package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aiops/internal/testkit"
)

// balancer sends requests to nodes in turn, as a load balancer does that asks
// each one for /readyz: to those that were ready when it asked last.
type balancer struct {
	urls   []string
	client *http.Client
	ready  []atomic.Bool
	served atomic.Int64

	mu     sync.Mutex
	failed []string
}

func newBalancer(urls []string) *balancer {
	return &balancer{urls: urls, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 50}}, ready: make([]atomic.Bool, len(urls))}
}

func (b *balancer) get(url string) (int, string, error) {
	response, err := b.client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// watch asks a node whether it is ready, until ctx ends.
func (b *balancer) watch(ctx context.Context, i int, every time.Duration) {
	for ctx.Err() == nil {
		status, _, err := b.get(b.urls[i] + "/readyz")
		b.ready[i].Store(err == nil && status == http.StatusOK)
		idle(ctx, every)
	}
}

// pick returns a ready node, in turn. While there is none, which on a loaded
// machine happens, requests wait for up to five seconds.
func (b *balancer) pick(ctx context.Context, n int) (int, bool) {
	for waited := time.Duration(0); waited < 5*time.Second; waited += 50 * time.Millisecond {
		for k := range b.urls {
			if i := (n + k) % len(b.urls); b.ready[i].Load() {
				return i, true
			}
		}
		idle(ctx, 50*time.Millisecond)
	}
	return 0, false
}

// send sends the n-th request.
func (b *balancer) send(ctx context.Context, n int, path string) {
	why := "no node is ready"
	if i, ok := b.pick(ctx, n); ok {
		status, body, err := b.get(b.urls[i] + path)
		if err == nil && status == http.StatusOK {
			b.served.Add(1)
			return
		}
		why = fmt.Sprintf("node %d, %s: %d %s %v", i, path, status, body, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = append(b.failed, why)
}

// TestRollingRestart restarts three nodes one after the other under requests
// that a balancer spreads over the ready ones: none of them fails (R26). The
// control asks a node that is not taken out before it stops.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	postgres := testkit.RequirePostgres(t)
	url, err := postgres.CreateDatabase("rolling")
	if err != nil {
		t.Fatal(err)
	}
	const every = 200 * time.Millisecond // between two looks of the balancer
	config := configured(t, fmt.Sprintf("server: {drain_delay: 2s}\nstorage: {postgres: {url: %q}, master_key: \"a key of at least 32 characters, shared\"}\nbuiltin: {host: {disabled: true}}\n", url))
	nodes, args, urls := make([]*server, 3), make([][]string, 3), make([]string, 3)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	for i := range nodes {
		args[i] = append(slices.Clone(config), "--listen", freeAddress(t))
		nodes[i] = start(t, dirs[i], "serve", args[i]...)
		urls[i] = nodes[i].url
	}
	create(nodes[0].url, "kept")
	b := newBalancer(urls)
	defer b.client.CloseIdleConnections()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	for i := range nodes {
		asking.Go(func() { b.watch(ctx, i, every) })
	}
	ready := func(i int) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprintf("the balancer sends to node %d", i), func() error {
			if !b.ready[i].Load() {
				return fmt.Errorf("it is not ready")
			}
			return nil
		})
	}
	for i := range nodes {
		ready(i)
	}
	paths := []string{"/api/v1/detectors", "/api/v1/anomalies", "/api/v1/sources", "/api/deployment"}
	asking.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				asking.Go(func() { b.send(ctx, n, paths[n%len(paths)]) })
			}
		}
	})
	for i := range nodes {
		if code := nodes[i].terminate(30 * time.Second); code != 0 {
			t.Errorf("node %d: exit code %d", i, code)
		}
		nodes[i] = start(t, dirs[i], "serve", args[i]...)
		ready(i)
	}
	b.mu.Lock()
	failed := slices.Clone(b.failed)
	b.mu.Unlock()
	t.Logf("%d requests served, %d failed", b.served.Load(), len(failed))
	if len(failed) > 0 || b.served.Load() < 300 {
		t.Errorf("failed: %v", failed[:min(5, len(failed))])
	}

	nodes[1].kill() // control: nobody told the balancer
	eventually(t, 30*time.Second, "control: a request to a node that was killed fails", func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.failed) == len(failed) {
			return fmt.Errorf("none failed")
		}
		return nil
	})
	stop()
	asking.Wait()
}
