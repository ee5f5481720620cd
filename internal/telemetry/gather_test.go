package telemetry

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writes is the pieces that were written.
type writes struct{ pieces []string }

func (w *writes) Write(p []byte) (int, error) {
	w.pieces = append(w.pieces, string(p))
	return len(p), nil
}

func TestGatherer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{}
		g := NewGatherer(w)
		write := func(line string) { fmt.Fprintln(g, line) }
		is := func(want ...string) {
			t.Helper()
			if synctest.Wait(); fmt.Sprintf("%q", w.pieces) != fmt.Sprintf("%q", want) {
				t.Errorf("written: %q, want %q", w.pieces, want)
			}
		}
		write("first")
		is("first\n")
		time.Sleep(gatherFor)
		write("alone")
		is("first\n", "alone\n")
		write("two")
		write("three")
		is("first\n", "alone\n")
		time.Sleep(gatherFor)
		is("first\n", "alone\n", "two\nthree\n")
		write("four")
		g.Flush()
		g.Flush()
		is("first\n", "alone\n", "two\nthree\n", "four\n")
		time.Sleep(2 * gatherFor) // its timer was stopped
		is("first\n", "alone\n", "two\nthree\n", "four\n")

		w.pieces = nil
		write("a")
		write(strings.Repeat("b", gatherMost-10))
		write("0123456789")
		is("a\n", strings.Repeat("b", gatherMost-10)+"\n0123456789\n")
	})
}

func BenchmarkGatherer(b *testing.B) {
	var out bytes.Buffer
	g := NewGatherer(&out)
	line := []byte(strings.Repeat("x", 400) + "\n")
	for b.Loop() {
		_, _ = g.Write(line)
		if out.Len() > 1<<20 {
			out.Reset()
		}
	}
}
