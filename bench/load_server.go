package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// loadServer is a process under test.
type loadServer struct {
	cmd     *exec.Cmd
	address string
}

func (s *loadServer) pid() int { return s.cmd.Process.Pid }

func (s *loadServer) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(40 * time.Second):
		_ = s.cmd.Process.Kill()
		<-done
	}
}

// onCore returns the command pinned to a core, where that can be done.
func onCore(ctx context.Context, core int, name string, args ...string) *exec.Cmd {
	if taskset, err := exec.LookPath("taskset"); err == nil {
		return exec.CommandContext(ctx, taskset, append([]string{"-c", strconv.Itoa(core), name}, args...)...)
	}
	return exec.CommandContext(ctx, name, args...)
}

// pin keeps this process, the generator, on the second core.
func (r *LoadReport) pin() (undo func()) {
	taskset, err := exec.LookPath("taskset")
	if err != nil || r.CPUs < 2 {
		return func() {}
	}
	set := func(cores string) error {
		return exec.CommandContext(context.Background(), taskset, "-a", "-p", "-c", cores, strconv.Itoa(os.Getpid())).Run()
	}
	if set("1") != nil {
		return func() {}
	}
	r.Pinned = true
	return func() { _ = set("0-" + strconv.Itoa(r.CPUs-1)) }
}

// startServer runs `aiops serve` on the first core and waits until it is
// ready and has something to show.
func startServer(ctx context.Context, o LoadOptions, dir, config string) (*loadServer, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the server's folder: %w", err)
	}
	file := filepath.Join(dir, "aiops.yaml")
	if config == "" {
		// One machine stands for many clients.
		config = "admission: {loopback: {requests_per_second: 1000000, burst: 1000000}}\n"
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, fmt.Errorf("writing the server's configuration: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "server.log"))
	if err != nil {
		return nil, fmt.Errorf("making the server's log: %w", err)
	}
	defer log.Close()
	cmd := onCore(ctx, 0, o.Program, "serve", "--config", file, "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	s := &loadServer{cmd: cmd}
	for wait := time.Now().Add(60 * time.Second); ; liveSleep(ctx, 200*time.Millisecond) {
		if text, err := os.ReadFile(filepath.Join(dir, "data", "address")); err == nil {
			s.address = strings.TrimPrefix(strings.TrimSpace(string(text)), "http://")
			if a, err := s.raw("/api/v1/detectors?limit=100"); err == nil && a.status == 200 && bytes.Contains(a.body, []byte(`"series_learning":1`)) {
				return s, nil
			}
		}
		if ctx.Err() != nil || time.Now().After(wait) {
			s.end()
			return nil, errors.Join(errors.New("the server does not get ready; its log: "+log.Name()), ctx.Err())
		}
	}
}

// plainAnswer is an answer as it was sent.
type plainAnswer struct {
	status int
	header http.Header
	body   []byte
}

func (s *loadServer) raw(path string) (plainAnswer, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+s.address+path, nil)
	if err != nil {
		return plainAnswer{}, fmt.Errorf("asking for %s: %w", path, err)
	}
	r, err := client.Do(request)
	if err != nil {
		return plainAnswer{}, fmt.Errorf("asking for %s: %w", path, err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return plainAnswer{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return plainAnswer{r.StatusCode, r.Header, body}, nil
}

// targets are the mixed reads: what a page and scripts ask for, a part of them
// too different from each other to be kept.
func (s *loadServer) targets() ([]string, error) {
	a, err := s.raw("/api/v1/detectors?limit=100")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	if err := json.Unmarshal(a.body, &list); err != nil || len(list.Items) == 0 {
		return nil, errors.Join(errors.New("the server has no detectors"), err)
	}
	var out []string
	for i := range 200 {
		id := list.Items[i%len(list.Items)].ID
		switch i % 20 {
		case 3, 9:
			out = append(out, "GET /api/v1/anomalies")
		case 4:
			out = append(out, "GET /api/v1/anomalies?q=number+"+strconv.Itoa(i)) // kept for a second, asked for less often
		case 5:
			out = append(out, "GET /api/v1/sources")
		case 6, 12:
			out = append(out, "GET /api/v1/detectors/"+id+"/status")
		case 7, 13:
			out = append(out, "GET /api/v1/detectors/"+id+"/series")
		case 8:
			out = append(out, "GET /health")
		case 10:
			out = append(out, "GET /api/v1/errors")
		case 11:
			out = append(out, "GET /prometheus/api/v1/query?query=up")
		case 1, 14:
			out = append(out, "GET /api/v1/detectors")
		default:
			out = append(out, "GET /api/v1/detectors/"+id)
		}
	}
	return out, nil
}

// startBare runs a net/http handler that sends an answer, on the first core.
func startBare(ctx context.Context, o LoadOptions, a plainAnswer) (*loadServer, error) {
	cmd := onCore(ctx, 0, o.Program, "bench", "load")
	cmd.Env = append(os.Environ(), loadRole+"=bare")
	cmd.Stderr = os.Stderr
	head, err := json.Marshal(a.header)
	if err != nil {
		return nil, fmt.Errorf("starting the bare handler: %w", err)
	}
	cmd.Stdin = io.MultiReader(bytes.NewReader(append(head, '\n')), bytes.NewReader(a.body))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the bare handler: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the bare handler: %w", err)
	}
	s := &loadServer{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.end()
		return nil, fmt.Errorf("waiting for the bare handler: %w", err)
	}
	s.address = strings.TrimSpace(line)
	return s, nil
}

// serveBare is the yardstick: the same headers and bytes from nothing but
// net/http. It reads them from in and writes its address to out.
func serveBare(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	head, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading the headers to send: %w", err)
	}
	var header http.Header
	if err := json.Unmarshal(head, &header); err != nil {
		return fmt.Errorf("reading the headers to send: %w", err)
	}
	header.Del("Date") // net/http writes its own
	body, err := io.ReadAll(lines)
	if err != nil {
		return fmt.Errorf("reading the bytes to send: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	fmt.Fprintln(out, listener.Addr())
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for name, values := range header {
			h[name] = values
		}
		_, _ = w.Write(body)
	})}
	return server.Serve(listener)
}

// cpuOf returns the processor time of a process, 0 where the system does not
// tell.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, after, ok := bytes.Cut(text, []byte(") "))
	fields := bytes.Fields(after)
	if !ok || len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // ticks are hundredths of a second
}
