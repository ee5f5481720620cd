package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aiops/internal/config"
	"aiops/internal/model"
)

func environment(pairs ...string) config.LookupFunc {
	return func(name string) (string, bool) {
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

const whole = `
server:   {listen: 127.0.0.1:9000}
storage:  {postgres: {url: "${DATABASE_URL}"}}
sources:
  - {name: main, type: prometheus, url: "http://prometheus:9090", password: "${PASSWORD}", username: reader}
  - {name: logs, type: loki, url: "http://loki:3100", headers: {X-Scope-OrgID: team}}
detectors:
  - name: checkout latency
    source: main
    query: histogram_quantile(0.99, sum by (le, route) (rate(http_request_duration_seconds_bucket{job="checkout"}[5m])))
    step: 30s
    model: auto
    parameters: {window: 60}
    false_alarms_per_week: 1
    direction: above
    min_deviation: {relative: 0.2}
    for: 2m
    keep_firing_for: 5m
`

func TestAWholeFile(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("aiops.yaml", []byte(whole), environment("DATABASE_URL", "postgres://db/aiops", "PASSWORD", "a: b\n- c"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Storage.Postgres.URL.Reveal(); got != "postgres://db/aiops" {
		t.Errorf("url = %q", got)
	}
	if got := c.Sources[0].Password.Reveal(); got != "a: b\n- c" {
		t.Errorf("a value from the environment changed the structure: %q", got)
	}
	d, err := c.Detectors[0].Definition()
	if err != nil {
		t.Fatal(err)
	}
	if d.Step != 30*time.Second || d.For != 2*time.Minute || d.MinDeviation.Relative != 0.2 || string(d.Parameters) != `{"window":60}` || !d.Enabled || !d.Provisioned {
		t.Errorf("definition = %+v", d)
	}
	if c.DataDir != "./aiops-data" || c.Builtin.Interval.Std() != 5*time.Second {
		t.Errorf("defaults are missing: %+v", c)
	}
}

func TestNoFileIsTheDefaults(t *testing.T) {
	t.Parallel()
	c, err := config.Load("", environment(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Listen != "127.0.0.1:8080" {
		t.Errorf("listen = %q", c.Server.Listen)
	}
}

func TestTheEnvironmentOverridesTheFile(t *testing.T) {
	t.Parallel()
	c, err := config.Parse("f", []byte("server: {listen: 127.0.0.1:1}\nlog: {level: debug}\n"),
		environment("AIOPS_LISTEN", "127.0.0.1:2", "AIOPS_DATABASE_URL", "postgres://x/y"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Listen != "127.0.0.1:2" || c.Log.Level != "debug" || c.Storage.Postgres.URL == "" {
		t.Errorf("config = %+v", c)
	}
}

func TestFaultsAreShownInPlace(t *testing.T) {
	t.Parallel()
	validate := func(d *model.Detector, _ model.SourceType) error {
		if strings.Contains(d.Query, "(((") {
			return &model.Error{Kind: model.KindInvalid, Message: "bad query", Fields: []model.FieldError{{Pointer: "/query", Code: "promql", Detail: "unclosed parenthesis"}}}
		}
		return nil
	}
	for name, test := range map[string]struct{ file, want string }{
		"unknown key":       {"server:\n  lisen: 127.0.0.1:1\n", "f.yaml:2:3: unknown field \"lisen\"\n  2 |   lisen: 127.0.0.1:1\n    |   ^"},
		"not YAML":          {"server: {listen: \n", "f.yaml:1:"},
		"wrong type":        {"detectors: 3\n", "f.yaml:1:12: "},
		"bad duration":      {"builtin: {interval: fast}\n", "\"fast\" is not a duration"},
		"unset variable":    {"storage: {postgres: {url: \"${NOWHERE}\"}}\n", "f.yaml:1:27: the environment variable NOWHERE is not set"},
		"not on loopback":   {"server: {listen: \"0.0.0.0:80\"}\n", "f.yaml:1:18: without authentication the program listens on loopback only"},
		"session lifetime":  {"auth: {enabled: true, session_lifetime: 1s}\n", "f.yaml:1:41: session_lifetime is between 1m and 90d"},
		"bad query":         {"detectors:\n- name: a\n  query: \"(((\"\n", "f.yaml:3:10: unclosed parenthesis\n  3 |   query: \"(((\"\n    |          ^"},
		"unknown source":    {"detectors:\n- name: a\n  source: b\n  query: up\n", "f.yaml:3:11: no source is named \"b\""},
		"missing key":       {"sources:\n- type: prometheus\n  url: http://x\n", "f.yaml:2:3: a name is 1 to 128 printable characters"},
		"twice the same":    {"detectors:\n- {name: a, query: up}\n- {name: a, query: up}\n", "f.yaml:3:10: detector \"a\" is already defined as number 1"},
		"duplicate key":     {"server: {}\nserver: {}\n", "f.yaml:2:1: "},
		"two databases":     {"storage: {sqlite: {path: x}, postgres: {url: \"postgres://a/b\"}}\n", "either sqlite or postgres"},
		"two sensitivities": {"detectors:\n- {name: a, query: up, sensitivity: low, false_alarms_per_week: 3}\n", "not both"},
	} {
		_, err := config.Parse("f.yaml", []byte(test.file), environment(), validate)
		var e *config.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: error %v is not a config.Error", name, err)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s:\n%s\nwant it to contain\n%s", name, err, test.want)
		}
	}
}

func TestAuthenticationAllowsOtherAddresses(t *testing.T) {
	t.Parallel()
	for file, ok := range map[string]bool{
		"server: {listen: \"0.0.0.0:80\"}\nauth: {enabled: true}\n":  true,
		"server: {listen: \"0.0.0.0:80\"}\nauth: {enabled: false}\n": false,
		"server: {listen: \":80\"}\n":                                false,
		"server: {listen: \"[::]:80\"}\n":                            false,
		"server: {listen: \"[::1]:80\"}\n":                           true,
		"server: {listen: \"127.0.0.9:80\"}\n":                       true,
	} {
		if _, err := config.Parse("f", []byte(file), environment(), nil); (err == nil) != ok {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("f", []byte("server: {listen: nowhere}\nstorage: {postgres: {url: mysql}}\n"), environment(), nil)
	var e *config.Error
	if !errors.As(err, &e) || len(e.Problems) != 2 {
		t.Errorf("error = %v, want two problems", err)
	}
}

func TestSecretsComeFromFilesAndDoNotPrint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("canary-123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse("f", []byte("sources: [{name: a, type: prometheus, url: \"http://h\", bearer_token: \"file:"+path+"\"}]"), environment(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Sources[0].BearerToken.Reveal(); got != "canary-123" {
		t.Errorf("token = %q", got)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if strings.Contains(fmt.Sprintf(verb, c), "canary-123") {
			t.Errorf("%s prints the secret", verb)
		}
	}
	if _, err := config.Parse("f", []byte("sources: [{name: a, type: prometheus, url: \"http://h\", bearer_token: \"file:/does/not/exist\"}]"), environment(), nil); err == nil {
		t.Error("a missing secret file was accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("detectors: [{}]\n---\nx: 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := config.Parse("f", data, environment(), nil); err != nil && err.Error() == "" {
			t.Error("an error without a message")
		}
	})
}
