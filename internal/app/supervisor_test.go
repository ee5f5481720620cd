package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A part that panics, fails or ends by itself is started again, ever more
// slowly, shown meanwhile, and does not hurt the others.
func TestPartsThatFailAreStartedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(slog.New(slog.NewTextHandler(io.Discard, nil)), prometheus.NewRegistry())
		ctx, cancel := context.WithCancel(t.Context())
		var starts []time.Duration
		begin := time.Now()
		ended := make(chan error, 2)
		go func() {
			ended <- s.run(ctx, "poisoned", func(ctx context.Context) error {
				starts = append(starts, time.Since(begin))
				switch len(starts) {
				case 1:
					panic("a poisoned sample")
				case 2:
					return errors.New("it failed")
				case 3:
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			})
		}()
		go func() { ended <- s.run(ctx, "well", func(ctx context.Context) error { <-ctx.Done(); return nil }) }()
		<-time.After(10 * time.Second)
		synctest.Wait()
		if len(starts) != 4 || starts[1] != time.Second || starts[2] != 3*time.Second || starts[3] != 7*time.Second {
			t.Errorf("started at %v, want at 0, 1, 3 and 7 s", starts)
		}
		if n := testutil.ToFloat64(s.restarts.WithLabelValues("poisoned")); n != 3 {
			t.Errorf("%v restarts counted", n)
		}
		if got := s.troubled(); len(got) != 1 || !strings.HasPrefix(got[0], "poisoned") || strings.Contains(got[0], "sample") {
			t.Errorf("troubled: %q, want the one, without what the panic said", got)
		}
		<-time.After(restartCalm)
		if got := s.troubled(); len(got) != 0 {
			t.Errorf("after a calm time: %q", got)
		}
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
