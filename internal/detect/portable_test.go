package detect

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPortableFunctionsAgreeWithMath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		ours, std   func(float64) float64
		from, to    float64
		tolerance   float64 // relative
		logarithmic bool
	}{
		{"ln", ln, math.Log, -700, 700, 4e-16, true},
		{"log10", log10, math.Log10, -700, 700, 1e-15, true},
		{"ln1p", ln1p, math.Log1p, -0.999, 50, 1e-15, false},
		{"exp", exp, math.Exp, -700, 700, 4e-15, false},
		{"expm1", expm1, math.Expm1, -40, 40, 4e-15, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				for range 200 {
					x := rapid.Float64Range(c.from, c.to).Draw(rt, "x")
					if c.logarithmic {
						x = math.Exp(x)
					}
					got, want := c.ours(x), c.std(x)
					if math.Abs(got-want) > c.tolerance*math.Abs(want)+1e-300 {
						rt.Fatalf("%s(%v) = %v, package math has %v", c.name, x, got, want)
					}
				}
			})
		})
	}
	for _, c := range []struct{ got, want float64 }{
		{ln(0), math.Inf(-1)}, {ln(-1), math.NaN()}, {ln(math.Inf(1)), math.Inf(1)}, {ln(5e-324), -744.4400719213812},
		{ln1p(-1), math.Inf(-1)}, {exp(1000), math.Inf(1)}, {exp(-1000), 0}, {exp(math.NaN()), math.NaN()}, {exp(0), 1},
	} {
		if c.got != c.want && (c.got == c.got || c.want == c.want) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
}

var fused = regexp.MustCompile(`\((\S+\.go:\d+)\)\s+(FN?M(?:ADD|SUB)[SD])\b`)

// compileFor returns the source lines that use a fused multiply-add on a
// processor that has it.
func compileFor(t *testing.T, dir string) []string {
	t.Helper()
	cmd := exec.Command("go", "build", "-gcflags=-S", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOARCH=arm64", "GOOS=linux", "CGO_ENABLED=0")
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("compiling for arm64: %v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "STEXT") {
		t.Fatal("the compiler printed no code: the check is blind")
	}
	var lines []string
	for _, m := range fused.FindAllStringSubmatch(out.String(), -1) {
		lines = append(lines, filepath.Base(m[1])+" "+m[2])
	}
	return lines
}

// Results are the same on every machine only if no multiplication is fused
// with an addition, which the compiler may do on arm64 and others.
func TestNoFusedArithmetic(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles the package for another processor")
	}
	for _, line := range compileFor(t, ".") {
		t.Errorf("%s: write mul(x, y) in place of x*y", line)
	}
}

// A control: the check above has to see a fused multiply-add.
func TestFusedArithmeticIsSeen(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles a package for another processor")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module control\n\ngo 1.26\n",
		"f.go":   "package control\n\nfunc F(x, y, z float64) float64 { return x*y + z }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(compileFor(t, dir)) == 0 {
		t.Error("x*y+z was not seen as fused")
	}
}
