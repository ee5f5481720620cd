package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Prometheus is a running Prometheus server on a loopback port. It accepts
// remote write and scrapes what its configuration says.
type Prometheus struct {
	dir  string // holds the configuration, the data and the log
	bin  string
	port int

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// PrometheusOptions say what a server is started with. The zero value is an
// empty server that scrapes nothing.
type PrometheusOptions struct {
	Config      string   // in Prometheus' YAML
	OpenMetrics string   // samples with times, put into the data before the start
	Flags       []string // further ones
}

// ErrNoPrometheus says that Prometheus is not installed here.
var ErrNoPrometheus = errors.New("Prometheus is not installed: neither prometheus nor promtool is on PATH")

// RequirePrometheus returns a server that ends with the test. Without
// Prometheus it fails the test when CI is set, and skips it elsewhere.
func RequirePrometheus(t testing.TB, options PrometheusOptions) *Prometheus {
	t.Helper()
	p, err := StartPrometheus(options)
	if errors.Is(err, ErrNoPrometheus) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// StartPrometheus makes a data directory below the temporary directory and
// starts a server on it. Close ends it.
func StartPrometheus(options PrometheusOptions) (*Prometheus, error) {
	bin, err := exec.LookPath("prometheus")
	if err != nil {
		return nil, ErrNoPrometheus
	}
	dir, err := os.MkdirTemp("", "aiops-prom-")
	if err != nil {
		return nil, err
	}
	p := &Prometheus{dir: dir, bin: bin}
	if err := p.setUp(options); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.Start(options.Flags...); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

func (p *Prometheus) setUp(options PrometheusOptions) error {
	if err := os.WriteFile(filepath.Join(p.dir, "prometheus.yml"), []byte(options.Config), 0o600); err != nil {
		return err
	}
	if options.OpenMetrics == "" {
		return nil
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		return ErrNoPrometheus
	}
	samples := filepath.Join(p.dir, "samples.txt")
	if err := os.WriteFile(samples, []byte(options.OpenMetrics), 0o600); err != nil {
		return err
	}
	out, err := exec.Command(promtool, "tsdb", "create-blocks-from", "openmetrics", "--quiet", samples, filepath.Join(p.dir, "data")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("promtool: %w\n%s", err, out)
	}
	return nil
}

// Start starts the server, on the port it had before, and returns when it is
// ready.
func (p *Prometheus) Start(flags ...string) error {
	var last error
	for range 5 {
		port := p.port
		if port == 0 {
			var err error
			if port, err = freePort(); err != nil {
				return err
			}
		}
		if last = p.start(port, flags); last == nil {
			p.port = port
			return nil
		}
	}
	return last
}

func (p *Prometheus) start(port int, flags []string) error {
	logFile, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	args := append([]string{
		"--config.file=" + filepath.Join(p.dir, "prometheus.yml"),
		"--storage.tsdb.path=" + filepath.Join(p.dir, "data"),
		"--storage.tsdb.retention.time=100y",
		"--web.listen-address=127.0.0.1:" + strconv.Itoa(port),
		"--web.enable-remote-write-receiver",
	}, flags...)
	cmd := exec.Command(p.bin, args...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in its log
	}()
	p.cmd, p.done = cmd, done
	if err := p.awaitReady(port); err != nil {
		p.Kill()
		return err
	}
	return nil
}

func (p *Prometheus) awaitReady(port int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/-/ready", port), nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("prometheus ended while starting:\n%s", p.log())
		case <-ctx.Done():
			return fmt.Errorf("prometheus was not ready in time:\n%s", p.log())
		case <-tick.C:
		}
	}
}

func (p *Prometheus) log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4096):])
}

// URL returns the server's address.
func (p *Prometheus) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", p.port) }

// Freeze stops the server without ending it: it accepts connections, because
// the kernel does, and answers nothing until Thaw.
func (p *Prometheus) Freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *Prometheus) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the server at once, as kill -9 does. Start starts it again.
func (p *Prometheus) Kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill() // it may have ended already
		<-p.done
	}
}

// Close ends the server and removes its directory.
func (p *Prometheus) Close() error {
	p.Kill()
	return os.RemoveAll(p.dir)
}
