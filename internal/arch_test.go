// Package internal_test holds the house rules that a compiler does not check:
// who may import whom, what a pure package may use, and that every package
// says what it is for.
package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "aiops/"

// rule is what one package may import from this module. A pattern that ends
// in /... covers the packages below.
type rule struct {
	pattern string
	allowed []string
	pure    bool
	reason  string
}

var ambient = []string{"internal/health", "internal/telemetry"}

var rules = []rule{
	{"internal/model", nil, true, "the shared nouns depend on nothing"},
	{"internal/detect", []string{"internal/model"}, true, "scoring is pure, so that replay equals production"},
	{"internal/logmine", []string{"internal/model"}, true, "mining is pure, so that ids are the same everywhere"},
	{"internal/correlate", []string{"internal/model"}, true, "correlation is pure"},
	{"internal/source", []string{"internal/model"}, false, "a source answers and never decides"},
	{"internal/source/...", append([]string{"internal/model", "internal/source", "internal/source/outward"}, ambient...), false, "a source answers and never decides"},
	{"internal/pipeline", append([]string{"internal/model", "internal/detect", "internal/logmine", "internal/correlate"}, ambient...), false, "the pipeline owns live models; what it fetches from and writes to are its own interfaces"},
	{"internal/pipeline/logs", append([]string{"internal/model", "internal/logmine"}, ambient...), false, "lines become series beside the engine, which sees them as a source like any other"},
	{"internal/pipeline/nodes", append([]string{"internal/model"}, ambient...), false, "who owns a detector is decided beside the engine, which asks for it as for a source"},
	{"internal/remediate", append([]string{"internal/model"}, ambient...), false, "siblings never import each other"},
	{"internal/notify", append([]string{"internal/model"}, ambient...), false, "siblings never import each other"},
	{"internal/space", []string{"internal/model"}, false, "a disk is measured in one place"},
	{"internal/store", append([]string{"internal/model", "internal/space", "internal/store/..."}, ambient...), false, "the store knows no consumer"},
	{"internal/store/...", append([]string{"internal/model", "internal/store", "internal/store/..."}, ambient...), false, "the store knows no consumer"},
	{"internal/auth", append([]string{"internal/model"}, ambient...), false, "siblings never import each other"},
	{"internal/admission", append([]string{"internal/model"}, ambient...), false, "siblings never import each other"},
	{"internal/api", append([]string{"internal/model", "internal/auth"}, ambient...), false, "the API declares what it needs; app connects it"},
	{"internal/realtime", append([]string{"internal/model", "internal/auth"}, ambient...), false, "siblings never import each other"},
	{"internal/health", nil, false, "a check is a function"},
	{"internal/telemetry", nil, false, "telemetry is below everything"},
	{"internal/demo", nil, false, "the shop is a stranger to the product, as a user's services are"},
	{"internal/config", []string{"internal/..."}, false, "the one file composes every package's configuration"},
	{"internal/app", []string{"internal/...", "web"}, false, "the composition root connects everything"},
	{"internal/testkit", []string{"internal/model"}, false, "real parts for tests"},
	{"client", nil, false, "for other programs: it imports nothing of this module"},
	{"bench", []string{"internal/..."}, false, "measures of the real parts"},
	{"web", nil, false, "the built page"},
	{"cmd/aiops", []string{"internal/app", "internal/config", "internal/telemetry", "internal/model", "bench"}, false, "a thin main: flags, signals, exit code"},
}

// rooms are the only packages that may import a vendor.
var rooms = []struct {
	vendor string
	rooms  []string
	reason string
}{
	{"modernc.org/sqlite", []string{"internal/store", "internal/store/..."}, "SQL drivers stay in store"},
	{"github.com/jackc/pgx", []string{"internal/store", "internal/store/..."}, "SQL drivers stay in store"},
	{"github.com/uptrace/bun", []string{"internal/store", "internal/store/..."}, "SQL stays in store"},
	{"github.com/riverqueue/river", []string{"internal/store", "internal/store/..."}, "tasks run on the store's database"},
	{"database/sql", []string{"internal/store", "internal/store/..."}, "SQL stays in store"},
	{"github.com/danielgtaylor/huma", []string{"internal/api"}, "HTTP operations stay in api"},
	{"github.com/go-chi/chi", []string{"internal/api"}, "routing stays in api"},
	{"k8s.io/client-go", []string{"internal/remediate"}, "actions on a cluster stay in remediate"},
	{"github.com/prometheus/prometheus/tsdb", []string{"internal/source/builtin"}, "the embedded database is wrapped once"},
	{"github.com/prometheus/prometheus/scrape", []string{"internal/source/builtin"}, "the scrape manager is wrapped once"},
	{"github.com/prometheus/prometheus/storage", []string{"internal/source/builtin"}, "the embedded database is wrapped once"},
	{"github.com/prometheus/prometheus/promql/parser", []string{"internal/source", "internal/source/..."}, "queries are read by sources"},
	{"github.com/gorilla/websocket", []string{"internal/realtime", "internal/source/loki", "bench", "client"}, "the socket library sits behind realtime"},
	{"github.com/goccy/go-yaml", []string{"internal/config"}, "one package reads the file"},
	{"github.com/alecthomas/kong", []string{"cmd/aiops"}, "flags belong to main"},
}

// impure packages and functions that a pure package must not touch.
var impure = []string{"context", "log", "log/slog", "os", "net", "net/http", "math/rand", "math/rand/v2", "crypto/rand", "sync", "sync/atomic", "io/fs", "database/sql"}

var clocks = map[string][]string{"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}}

type source struct {
	pkg  string // such as internal/detect
	name string
	file *ast.File
	set  *token.FileSet
	test bool
}

func sources(t *testing.T) []source {
	t.Helper()
	var out []source
	root := ".."
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); name == "node_modules" || name == "testdata" || name == "depskeep" || rel == "tools" || rel == "deploy" || (strings.HasPrefix(name, ".") && name != "." && name != "..") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, source{pkg: path.Dir(rel), name: rel, file: f, set: set, test: strings.HasSuffix(p, "_test.go")})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("only %d Go files found: the walk is broken", len(out))
	}
	return out
}

func matches(pattern, pkg string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(pkg, prefix+"/")
	}
	return pattern == pkg
}

func ruleFor(pkg string) *rule {
	for i := range rules {
		if matches(rules[i].pattern, pkg) {
			return &rules[i]
		}
	}
	return nil
}

func imports(s source) []string {
	var out []string
	for _, i := range s.file.Imports {
		out = append(out, strings.Trim(i.Path.Value, `"`))
	}
	return out
}

// forbidden returns why s may not import what, or "".
func forbidden(s source, what string) string {
	if strings.HasPrefix(what, module) {
		target := strings.TrimPrefix(what, module)
		if target == "internal/app" && s.pkg != "cmd/aiops" && s.pkg != "e2e" {
			return "only cmd and e2e import app"
		}
		if target == "internal/config" && s.pkg != "cmd/aiops" && s.pkg != "internal/app" {
			return "only app and cmd import config"
		}
		r := ruleFor(s.pkg)
		if r == nil {
			return "package " + s.pkg + " has no row in the table of rules"
		}
		if !slices.ContainsFunc(r.allowed, func(p string) bool { return matches(p, target) }) {
			return r.reason
		}
		return ""
	}
	for _, room := range rooms {
		if (what == room.vendor || strings.HasPrefix(what, room.vendor+"/")) && !slices.ContainsFunc(room.rooms, func(p string) bool { return matches(p, s.pkg) }) {
			return room.reason
		}
	}
	if r := ruleFor(s.pkg); r != nil && r.pure && slices.Contains(impure, what) {
		return "a pure package has no clock, context, logger, randomness, goroutine or I/O"
	}
	return ""
}

func TestImportsObeyTheRules(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test || s.pkg == "e2e" {
			continue
		}
		if ruleFor(s.pkg) == nil {
			t.Errorf("%s: package %s has no row in the table of rules", s.name, s.pkg)
		}
		for _, i := range imports(s) {
			if why := forbidden(s, i); why != "" {
				t.Errorf("%s imports %s: %s", s.name, i, why)
			}
		}
	}
}

// A control: the check above has to be able to fail.
func TestTheRulesCatchOffenders(t *testing.T) {
	t.Parallel()
	for _, offence := range []struct{ pkg, imports string }{
		{"internal/detect", "aiops/internal/store"},
		{"internal/detect", "log/slog"},
		{"internal/api", "aiops/internal/pipeline"},
		{"internal/api", "aiops/internal/app"},
		{"internal/pipeline", "modernc.org/sqlite"},
		{"internal/store", "aiops/internal/config"},
		{"internal/unheard", "aiops/internal/model"},
	} {
		if forbidden(source{pkg: offence.pkg}, offence.imports) == "" {
			t.Errorf("%s may import %s, and must not", offence.pkg, offence.imports)
		}
	}
}

func TestPurePackagesHaveNoClockAndNoGoroutine(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		r := ruleFor(s.pkg)
		if s.test || r == nil || !r.pure {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", s.set.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && slices.Contains(clocks[x.Name], n.Sel.Name) {
					t.Errorf("%s reads the clock: %s.%s", s.set.Position(n.Pos()), x.Name, n.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestNoInitAndNoPackageState(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		assigned := map[string]bool{}
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s: no init side effects", s.set.Position(f.Pos()))
			}
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					assigned[name.Name] = true
				}
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok || a.Tok == token.DEFINE {
				return true
			}
			for _, left := range a.Lhs {
				if id, ok := left.(*ast.Ident); ok && assigned[id.Name] && !shadowed(s.file, id) {
					t.Errorf("%s: package variable %s is changed", s.set.Position(a.Pos()), id.Name)
				}
			}
			return true
		})
	}
}

// shadowed reports whether some function of the file declares a local
// variable or parameter called as id is, around id.
func shadowed(f *ast.File, id *ast.Ident) bool {
	found := false
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || id.Pos() < fn.Pos() || id.Pos() > fn.End() {
			continue
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok == token.DEFINE {
					for _, l := range n.Lhs {
						if x, ok := l.(*ast.Ident); ok && x.Name == id.Name {
							found = true
						}
					}
				}
			case *ast.Field:
				for _, x := range n.Names {
					if x.Name == id.Name {
						found = true
					}
				}
			case *ast.ValueSpec:
				for _, x := range n.Names {
					if x.Name == id.Name {
						found = true
					}
				}
			}
			return true
		})
	}
	return found
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if s.test && s.pkg != "internal" {
			continue
		}
		documented[s.pkg] = documented[s.pkg] || s.file.Doc != nil
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no comment that says what it owns and what it refuses to do", pkg)
		}
	}
}

func TestNoSleepInTests(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		bubble := false // inside testing/synctest a sleep moves the fake clock
		for _, i := range imports(s) {
			bubble = bubble || i == "testing/synctest"
		}
		if bubble {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" && sel.Sel.Name == "Sleep" {
					t.Errorf("%s sleeps: use testing/synctest or wait for a condition", s.set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}
