package web_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"aiops/web"
)

// TestDist holds before and after a web build: either there is no page, or
// there is one with all that it refers to.
func TestDist(t *testing.T) {
	t.Parallel()
	_, err := os.Stat("dist/index.html")
	built := err == nil
	dist := web.Dist()
	if dist == nil {
		if built {
			t.Fatal("Dist is nil although dist/index.html exists")
		}
		t.Skip("the page is not built; npm run build in web/ builds it")
	}
	page, err := fs.ReadFile(dist, "index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"swagger-ui/swagger-ui-bundle.js", "swagger-ui/swagger-ui.css", "licenses.md", "favicon.svg"} {
		if _, err := fs.Stat(dist, want); err != nil {
			t.Errorf("the build lacks %s: %v", want, err)
		}
	}
	for _, forbidden := range []string{"<style", "style=", "http://", "https://"} {
		if strings.Contains(string(page), forbidden) {
			t.Errorf("index.html holds %q, which the content security policy forbids", forbidden)
		}
	}
	assets := 0
	for _, part := range strings.Split(string(page), `"`) {
		name, ok := strings.CutPrefix(part, "/assets/")
		if !ok {
			continue
		}
		assets++
		for _, file := range []string{"assets/" + name, "assets/" + name + ".gz"} {
			if _, err := fs.Stat(dist, file); err != nil && !(strings.HasSuffix(file, ".gz") && small(dist, "assets/"+name)) {
				t.Errorf("index.html refers to %s: %v", file, err)
			}
		}
	}
	if assets < 2 {
		t.Errorf("index.html refers to %d assets, want a script and styles at least", assets)
	}
}

// small files are not worth compressing.
func small(dist fs.FS, name string) bool {
	info, err := fs.Stat(dist, name)
	return err == nil && info.Size() < 1024
}
