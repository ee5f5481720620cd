package deploy

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestDockerfile checks what needs no container engine: each folder that is
// copied exists, and the last stage is empty but for the program.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stage, user, copies := "", "", 0
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "FROM":
			stage, user = words[1], ""
		case "USER":
			user = words[1]
		case "COPY":
			if strings.HasPrefix(words[1], "--") {
				continue
			}
			for _, from := range words[1 : len(words)-1] {
				copies++
				if _, err := os.Stat(filepath.Join("..", from)); err != nil {
					t.Errorf("COPY %s: %v", from, err)
				}
			}
		case "RUN":
			if stage == "scratch" {
				t.Error("the last stage runs something")
			}
		}
	}
	if stage != "scratch" || !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("the last stage is %q as the user %q; want scratch and numbers above 0", stage, user)
	}
	if copies < 4 {
		t.Errorf("only %d folders are copied: the test reads the file wrongly", copies)
	}
}

// TestImageProgram builds the program as the Dockerfile does, checks that it
// needs no library, and lets it read the chart's configuration.
func TestImageProgram(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "aiops")
	build := exec.Command("go", "build", "-trimpath", "-tags", "timetzdata", "-o", program, "./cmd/aiops")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if needed, err := file.ImportedLibraries(); err != nil || len(needed) > 0 {
		t.Errorf("the program is not static: %v %v", needed, err)
	}
	for name, c := range map[string]struct {
		values map[string]any
		ok     bool
	}{
		"defaults":               {nil, true},
		"without authentication": {map[string]any{"config": map[string]any{"auth": map[string]any{"enabled": false}}}, false},
		"an unknown key":         {map[string]any{"config": map[string]any{"sevrer": map[string]any{}}}, false},
	} {
		text, err := configOf(c.values)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "aiops.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(program, "check", path).CombinedOutput(); (err == nil) != c.ok {
			t.Errorf("%s: aiops check says %v\n%s\n%s", name, err, out, text)
		}
	}
}

// TestWorkflow checks that the workflow is YAML, that its token can only read
// unless a job says otherwise, and that each action is pinned by full version.
func TestWorkflow(t *testing.T) {
	t.Parallel()
	type workflow struct {
		Permissions map[string]string `json:"permissions"`
		Jobs        map[string]struct {
			Timeout int `json:"timeout-minutes"`
			Steps   []struct {
				Uses string `json:"uses"`
				Run  string `json:"run"`
			} `json:"steps"`
		} `json:"jobs"`
	}
	text, err := os.ReadFile("../.github/workflows/ci.yml")
	if err != nil {
		t.Fatal(err)
	}
	var w workflow
	if err := yaml.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
		t.Errorf("permissions %v", w.Permissions)
	}
	pinned := regexp.MustCompile(`^[\w./-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})$`)
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for name, job := range w.Jobs {
		if job.Timeout == 0 {
			t.Errorf("%s has no time limit", name)
		}
		for _, s := range job.Steps {
			if s.Uses != "" && !pinned.MatchString(s.Uses) {
				t.Errorf("%s: %s is not pinned by full version", name, s.Uses)
			}
			for _, target := range regexp.MustCompile(`\bmake ([a-z-]+)`).FindAllStringSubmatch(s.Run, -1) {
				if !strings.Contains(string(makefile), "\n"+target[1]+":") {
					t.Errorf("%s: there is no target %s", name, target[1])
				}
			}
		}
	}
	if len(w.Jobs) < 5 {
		t.Errorf("only %d jobs", len(w.Jobs))
	}
	if pinned.MatchString("actions/checkout@v4") || pinned.MatchString("actions/checkout@main") {
		t.Error("the check lets a moving version through")
	}
}
