package e2e

import (
	"os"
	"os/exec"
	"testing"
)

// TestThePageInARealBrowser runs the page's own checks against the program: it
// shows this host, works by keyboard, has no accessibility faults and no
// console errors.
func TestThePageInARealBrowser(t *testing.T) {
	t.Parallel()
	require(t, "chromium", "chromium-browser", "google-chrome")
	require(t, "npm")
	if _, err := os.Stat("../web/dist/index.html"); err != nil {
		t.Skip("the page is not built; make web builds it")
	}
	s := start(t, t.TempDir(), "serve")
	cmd := exec.Command("npm", "run", "e2e", "--silent")
	cmd.Dir = "../web"
	cmd.Env = append(os.Environ(), "AIOPS_URL="+s.url)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, tail(string(out), 80))
	}
}
