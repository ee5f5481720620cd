package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// proxy is a network that can be cut: it forwards connections to a target that
// may change.
type proxy struct {
	t       *testing.T
	address string

	mu       sync.Mutex
	target   string
	listener net.Listener
	frozen   bool // what is sent through it disappears
	conns    map[net.Conn]bool
}

func newProxy(t *testing.T, target string) *proxy {
	p := &proxy{t: t, target: target, conns: map[net.Conn]bool{}}
	p.listen("127.0.0.1:0")
	t.Cleanup(p.cut)
	return p
}

func (p *proxy) listen(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		p.t.Fatalf("listening again at %s: %v", address, err)
	}
	p.mu.Lock()
	p.listener, p.address, p.frozen = l, l.Addr().String(), false
	p.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(in)
		}
	}()
}

func (p *proxy) serve(in net.Conn) {
	p.mu.Lock()
	target := p.target
	p.conns[in] = true
	p.mu.Unlock()
	defer p.end(in)
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[out] = true
	p.mu.Unlock()
	defer p.end(out)
	go func() {
		defer out.Close()
		_, _ = io.Copy(&leaky{p, out}, in)
	}()
	_, _ = io.Copy(&leaky{p, in}, out)
}

func (p *proxy) end(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// leaky writes to a connection, or to nowhere while the proxy is frozen.
type leaky struct {
	p    *proxy
	conn net.Conn
}

func (l *leaky) Write(b []byte) (int, error) {
	l.p.mu.Lock()
	frozen := l.p.frozen
	l.p.mu.Unlock()
	if frozen {
		return len(b), nil
	}
	return l.conn.Write(b)
}

// cut ends every connection and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener.Close()
	for c := range p.conns {
		c.Close()
	}
}

// freeze lets the connections stand and nothing through, as a network does
// that lost its way.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
}

func (p *proxy) heal(target string) {
	p.cut()
	p.mu.Lock()
	if target != "" {
		p.target = target
	}
	address := p.address
	p.mu.Unlock()
	p.listen(address)
}

// TestThePageIsLive lets a real browser watch a program whose metrics, network
// and life the browser's test controls: web/e2e/live.e2e.ts.
func TestThePageIsLive(t *testing.T) {
	t.Parallel()
	require(t, "chromium", "chromium-browser", "google-chrome")
	require(t, "npm")
	if _, err := os.Stat("../web/dist/index.html"); err != nil {
		t.Skip("the page is not built; make web builds it")
	}
	gauge := &exporter{}
	metrics := serveOn(t, gauge)
	dir := t.TempDir()
	file := filepath.Join(dir, "aiops.yaml")
	config := fmt.Sprintf(`
builtin:
  host: {disabled: true}
  late_data: 500ms
  targets: [{job: test, urls: ["http://%s/metrics"], interval: 1s, timeout: 900ms}]
live: {max_clients_per_address: 100, reconnect_min: 1s, reconnect_max: 3s}
detectors:
- {name: queue, query: queue_depth, step: 1s, model: robust_zscore, parameters: {window: 30}, direction: above, min_deviation: {absolute: 10}, keep_firing_for: 3s}
`, metrics)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	s := start(t, data, "serve", "--config", file)
	network := newProxy(t, s.url[len("http://"):])

	// Orders of the browser's test, carried out by this one.
	type order struct {
		does string
		done chan struct{}
	}
	orders := make(chan order)
	control := serveOn(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := order{r.URL.Path, make(chan struct{})}
		orders <- o
		<-o.done
	}))

	cmd := exec.Command("npm", "run", "e2e", "--silent", "--", "live")
	cmd.Dir = "../web"
	cmd.Env = append(os.Environ(), "AIOPS_URL=http://"+network.address, "AIOPS_CONTROL=http://"+control)
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case o := <-orders:
			switch o.does {
			case "/fault/on":
				gauge.add(200)
			case "/fault/off":
				gauge.add(0)
			case "/network/cut":
				network.cut()
			case "/network/freeze":
				network.freeze()
			case "/network/heal":
				network.heal("")
			case "/program/kill":
				s.kill()
			case "/program/start":
				s = start(t, data, "serve", "--config", file)
				network.heal(s.url[len("http://"):])
			default:
				t.Errorf("unknown order %q", o.does)
			}
			close(o.done)
		case err := <-ended:
			if err != nil {
				t.Errorf("%v\n%s", err, tail(out.String(), 120))
			} else {
				t.Log(tail(out.String(), 40))
			}
			return
		}
	}
}

// serveOn serves h on a free port of loopback and returns the address.
func serveOn(t *testing.T, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: h}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { web.Close() })
	return l.Addr().String()
}

// TestThePageAsksWhoOneIs signs a real browser in with a key, revokes the key,
// and sees the page ask again: web/e2e/signin.e2e.ts.
func TestThePageAsksWhoOneIs(t *testing.T) {
	t.Parallel()
	require(t, "chromium", "chromium-browser", "google-chrome")
	require(t, "npm")
	if _, err := os.Stat("../web/dist/index.html"); err != nil {
		t.Skip("the page is not built; make web builds it")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "aiops.yaml")
	if err := os.WriteFile(file, []byte("auth: {enabled: true}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	create := exec.Command(binary, "token", "create", "--name", "browser", "--role", "admin", "--config", file, "--data-dir", data)
	create.Stderr = os.Stderr
	key, err := create.Output()
	if err != nil {
		t.Fatalf("making a key: %v", err)
	}
	s := start(t, data, "serve", "--config", file)
	cmd := exec.Command("npm", "run", "e2e", "--silent", "--", "signin")
	cmd.Dir = "../web"
	cmd.Env = append(os.Environ(), "AIOPS_URL="+s.url, "AIOPS_KEY="+strings.TrimSpace(string(key)))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, tail(string(out), 80))
	}
}
