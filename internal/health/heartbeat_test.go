package health

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h Heartbeat
		if err := h.Stopped(time.Second); err != nil {
			t.Errorf("before the first beat: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wedge := make(chan struct{})
		beats := 0
		done := make(chan error, 1)
		go func() {
			done <- h.Run(ctx, time.Second, func() {
				if beats++; beats > 60 {
					<-wedge
				}
			})
		}()
		time.Sleep(59 * time.Second)
		if err := h.Stopped(30 * time.Second); err != nil {
			t.Errorf("while it beats: %v", err)
		}
		time.Sleep(40 * time.Second)
		if h.Stopped(30*time.Second) == nil {
			t.Error("a wedged loop is not noticed")
		}
		cancel()
		close(wedge)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
