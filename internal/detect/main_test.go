package detect_test

import (
	"flag"
	"os"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata print as what is expected of them")

// TestMain runs fewer random cases than rapid's default, because each one runs
// every model in every direction; pass -rapid.checks for more.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.checks": "25", "rapid.nofailfile": "true"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	flag.Parse()
	os.Exit(m.Run())
}
