package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestServeWatchesThisHostWithinAMinute(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), "serve")
	t.Logf("ready after %s", s.ready)
	wanted := []string{"host cpu", "host memory", "host disk space", "host network traffic", "host load", "own latency", "own errors"}
	s.eventually(60*time.Second, "every provisioned detector has series", func() error {
		var detectors list[detector]
		s.json(http.MethodGet, "/api/v1/detectors?limit=100", nil, &detectors)
		watched := map[string]detector{}
		for _, d := range detectors.Items {
			watched[d.Name] = d
		}
		for _, name := range wanted {
			d, ok := watched[name]
			switch {
			case !ok:
				return fmt.Errorf("there is no detector %q", name)
			case d.Status.State != "learning" && d.Status.State != "running":
				return fmt.Errorf("%s is %s: %s", name, d.Status.State, d.Status.LastError)
			case d.Status.SeriesActive == 0:
				return fmt.Errorf("%s has no series yet", name)
			}
		}
		return nil
	})
	s.eventually(60*time.Second-time.Since(s.start), "a live value lies inside its band on the chart", func() error {
		var detectors list[detector]
		s.json(http.MethodGet, "/api/v1/detectors?limit=100", nil, &detectors)
		for _, d := range detectors.Items {
			if d.Name != "host memory" {
				continue
			}
			var replay struct {
				Points []struct{ Value, Expected, Lower, Upper *float64 } `json:"points"`
			}
			s.json(http.MethodGet, "/api/v1/detectors/"+d.ID+"/replay", nil, &replay)
			for _, p := range replay.Points {
				// The detector looks upwards only, so that its band has no lower end.
				if p.Value != nil && p.Expected != nil && p.Upper != nil && *p.Value <= *p.Upper {
					return nil
				}
			}
			return fmt.Errorf("%d points, none with a band", len(replay.Points))
		}
		return fmt.Errorf("host memory is gone")
	})
	status, page := s.get("/")
	if status != http.StatusOK || !strings.Contains(string(page), "<title>") {
		t.Errorf("the page: %d\n%s", status, page)
	}
	for _, path := range []string{"/livez", "/alive", "/readyz", "/ready", "/startupz", "/health", "/health/database", "/metrics", "/api/openapi.json", "/api/openapi.yaml", "/api/docs", "/api/deployment", "/api/v1/errors", "/prometheus/api/v1/query?query=up"} {
		if status, body := s.get(path); status != http.StatusOK {
			t.Errorf("%s: %d\n%s", path, status, body)
		}
	}
	if code := s.terminate(30 * time.Second); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, s.out)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("server:\n  lisen: 127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no command":             {nil, 2, "serve"},
		"unknown flag":           {[]string{"serve", "--nonsense"}, 2, "nonsense"},
		"bad file":               {[]string{"serve", "--config", bad}, 2, "bad.yaml:2:3: unknown field \"lisen\""},
		"check of a bad file":    {[]string{"check", bad}, 2, "^"},
		"missing file":           {[]string{"check", filepath.Join(dir, "none.yaml")}, 2, "none.yaml"},
		"not on loopback":        {[]string{"serve", "--listen", "0.0.0.0:0", "--data-dir", dir}, 2, "without authentication"},
		"version":                {[]string{"version"}, 0, "aiops "},
		"backtest without range": {[]string{"backtest", "--detector", bad}, 2, "--from"},
		"help":                   {[]string{"--help"}, 0, "Commands:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(binary, test.args...)
			out, _ := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(out), test.says) {
				t.Errorf("exit code %d, want %d; output, which should contain %q:\n%s", code, test.code, test.says, out)
			}
		})
	}
}

func TestTwoProgramsOnOneDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, dir, "serve")
	second := launch(t, dir, "serve")
	select {
	case <-second.exited:
	case <-time.After(20 * time.Second):
		t.Fatal("the second program did not give up")
	}
	if code := second.cmd.ProcessState.ExitCode(); code == 0 || !strings.Contains(second.out.String(), "lock") && !strings.Contains(second.out.String(), "in use") {
		t.Errorf("exit code %d, output:\n%s", code, second.out)
	}
	if status, _ := first.get("/readyz"); status != http.StatusOK {
		t.Errorf("the first program is harmed: /readyz is %d", status)
	}
}

func TestReloadKeepsTheRunningConfigurationWhenTheFileIsBad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "aiops.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := func(s *server) map[string]bool {
		var detectors list[detector]
		s.json(http.MethodGet, "/api/v1/detectors?limit=100", nil, &detectors)
		out := map[string]bool{}
		for _, d := range detectors.Items {
			out[d.Name] = true
		}
		return out
	}
	write("detectors: [{name: first, query: up, step: 5s}]\n")
	s := start(t, filepath.Join(dir, "data"), "serve", "--config", file)
	if !names(s)["first"] {
		t.Fatal("the provisioned detector is missing")
	}
	write("detectors: [{name: second, query: \"up{\", step: 5s}]\n")
	status, body := s.send(http.MethodPost, "/-/reload", nil)
	var p problem
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusUnprocessableEntity || p.Code != "VALIDATION_ERROR" || !strings.Contains(p.Detail, "aiops.yaml:1:") {
		t.Errorf("reloading a bad file: %d\n%s", status, body)
	}
	if got := names(s); !got["first"] || got["second"] {
		t.Errorf("a bad file changed the detectors: %v", got)
	}
	write("detectors: [{name: second, query: up, step: 5s}]\n")
	if status, body := s.send(http.MethodPost, "/-/reload", nil); status/100 != 2 {
		t.Errorf("reloading: %d\n%s", status, body)
	}
	if got := names(s); got["first"] || !got["second"] {
		t.Errorf("detectors after the reload: %v", got)
	}
	status, body = s.send(http.MethodDelete, "/api/v1/detectors/unknown", nil)
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusNotFound || p.Code != "DETECTOR_NOT_FOUND" {
		t.Errorf("deleting what is not there: %d\n%s", status, body)
	}
}
