package builtin

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashEnv) != "" {
		os.Exit(m.Run()) // a process that another test started, to be killed or to leak
	}
	goleak.VerifyTestMain(m)
}
