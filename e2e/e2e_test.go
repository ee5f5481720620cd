// Package e2e starts the built program as a user starts it and looks at it
// from outside: exit codes, probes, the API, real peers, a real browser.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once. AIOPS_BIN names one that is
// built already.
var binary string

func TestMain(m *testing.M) {
	code, err := func() (int, error) {
		if binary = os.Getenv("AIOPS_BIN"); binary != "" {
			return m.Run(), nil
		}
		dir, err := os.MkdirTemp("", "aiops-e2e")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "aiops")
		args := []string{"build", "-o", binary}
		if raced {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "../cmd/aiops")...)
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("building the program: %w\n%s", err, out)
		}
		return m.Run(), nil
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// output collects what a process prints. It is safe for concurrent use.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// server is a running program.
type server struct {
	t      *testing.T
	url    string
	dir    string
	cmd    *exec.Cmd
	out    *output
	exited chan struct{}
	start  time.Time
	ready  time.Duration // from start to the first /readyz 200
}

// start runs `aiops command` on a free port and waits until it is ready. The
// process is ended with the test.
func start(t *testing.T, dir string, command string, args ...string) *server {
	t.Helper()
	s := launch(t, dir, command, args...)
	s.eventually(60*time.Second, "the program is ready", func() error {
		select {
		case <-s.exited:
			t.Fatalf("the program ended:\n%s", s.out)
		default:
		}
		if s.url == "" {
			_, after, ok := strings.Cut(s.out.String(), "aiops is at ")
			url, _, whole := strings.Cut(after, "\n")
			if !ok || !whole {
				return errors.New("it has not said where it is")
			}
			s.url = url
		}
		status, _ := s.get("/readyz")
		if status != http.StatusOK {
			return fmt.Errorf("/readyz is %d", status)
		}
		return nil
	})
	s.ready = time.Since(s.start)
	return s
}

// launch runs the program without waiting.
func launch(t *testing.T, dir string, command string, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: dir, out: new(output), exited: make(chan struct{}), start: time.Now()}
	s.cmd = exec.Command(binary, append([]string{command, "--listen", "127.0.0.1:0", "--data-dir", dir}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() {
		s.kill()
		if strings.Contains(s.out.String(), "WARNING: DATA RACE") {
			t.Errorf("the program raced")
		}
		if t.Failed() {
			t.Logf("output of the program, without requests that were served:\n%s", tail(served.ReplaceAllString(s.out.String(), ""), 60))
		}
	})
	return s
}

// served is a line of the log about a request that was served.
var served = regexp.MustCompile(`(?m)^\{.*"msg":"request".*"status":[123]\d\d,.*\n`)

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// kill ends the process at once, as a power failure would.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// terminate asks the program to stop and returns its exit code.
func (s *server) terminate(within time.Duration) int {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(within):
		s.t.Fatalf("the program did not stop within %s", within)
	}
	return s.cmd.ProcessState.ExitCode()
}

// get returns the status and the body of a path.
func (s *server) get(path string) (int, []byte) {
	return s.send(http.MethodGet, path, nil)
}

func (s *server) send(method, path string, body any) (int, []byte) {
	s.t.Helper()
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return response.StatusCode, data
}

// json sends a request that has to succeed and decodes the answer. A refusal
// for overload, which the machine's other work may cause, is obeyed as a client
// should: nothing was done, so it is sent again when it may be.
func (s *server) json(method, path string, body, into any) {
	s.t.Helper()
	status, data := s.send(method, path, body)
	for tries := 0; status == http.StatusServiceUnavailable && tries < 10; tries++ {
		var problem struct {
			Code  string `json:"code"`
			After int64  `json:"retry_after_ms"`
		}
		if json.Unmarshal(data, &problem) != nil || problem.Code != "OVERLOADED" {
			break
		}
		<-time.After(time.Duration(min(problem.After, 2000)) * time.Millisecond)
		status, data = s.send(method, path, body)
	}
	if status < 200 || status > 299 {
		s.t.Fatalf("%s %s: %d\n%s", method, path, status, data)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(data, into); err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, path, err, data)
	}
}

// eventually waits until condition is nil, asking ten times a second.
func (s *server) eventually(within time.Duration, what string, condition func() error) {
	s.t.Helper()
	eventually(s.t, within, what, condition)
}

func eventually(t *testing.T, within time.Duration, what string, condition func() error) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(within)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s in vain until %s: %v", within, what, err)
		}
		<-tick.C
	}
}

// require returns the path of a program that a test needs. Without it the
// test fails in continuous integration and is skipped with the reason
// elsewhere.
func require(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	message := fmt.Sprintf("%s is not installed; make test-system installs it", names[0])
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// The parts of the API's shapes that these tests look at.
type (
	list[T any] struct {
		Items      []T    `json:"items"`
		NextCursor string `json:"next_cursor"`
	}
	detector struct {
		ID      string `json:"id"`
		Name    string `json:"name"`
		Version int64  `json:"version"`
		Status  struct {
			State          string  `json:"state"`
			SeriesActive   int     `json:"series_active"`
			SeriesLearning int     `json:"series_learning"`
			OpenAnomalies  int     `json:"open_anomalies"`
			LagSeconds     float64 `json:"lag_seconds"`
			LastError      string  `json:"last_error"`
		} `json:"status"`
	}
	anomaly struct {
		ID           string    `json:"id"`
		DetectorName string    `json:"detector_name"`
		State        string    `json:"state"`
		StartedAt    time.Time `json:"started_at"`
		Value        float64   `json:"value"`
		Reason       string    `json:"reason"`
	}
	problem struct {
		Code       string `json:"code"`
		Detail     string `json:"detail"`
		Retryable  *bool  `json:"retryable"`
		RetryAfter int64  `json:"retry_after_ms"`
		RequestID  string `json:"request_id"`
	}
)
