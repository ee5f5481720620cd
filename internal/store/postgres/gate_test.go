package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgconn"
)

// answering is a server that answers as it is told, one attempt after the other.
type answering chan error

func (answering) Driver() driver.Driver { return nil }

func (a answering) Connect(context.Context) (driver.Conn, error) { return nil, <-a }

func TestOneTriesAServerThatIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := make(answering)
		pools := [2]gate{{Connector: server, state: &gateState{}}}
		pools[1] = pools[0]
		tooMany := &pgconn.PgError{Code: full}
		try := func(n int) (ended func() int) {
			var mu sync.Mutex
			refused := 0
			for i := range n {
				go func() {
					_, err := pools[i%2].Connect(context.Background())
					mu.Lock()
					defer mu.Unlock()
					if err == nil || errors.Is(err, tooMany) {
						refused++
					} else {
						t.Errorf("attempt %d: %v", i, err)
					}
				}()
			}
			synctest.Wait()
			return func() int {
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				return refused
			}
		}
		first := try(10)
		if n := first(); n != 0 {
			t.Errorf("control: %d attempts ended before the server said anything", n)
		}
		for range 10 {
			server <- tooMany
		}
		if n := first(); n != 10 {
			t.Errorf("%d of 10 attempts were refused", n)
		}
		for _, answer := range []error{tooMany, nil} { // it stays full, and then is no longer
			next := try(10)
			if n := next(); n != 9 {
				t.Errorf("%d of 10 did not wait for the server", n)
			}
			server <- answer
			if n := next(); n != 10 {
				t.Errorf("%d of 10 attempts ended", n)
			}
		}
		last := try(10)
		if n := last(); n != 0 {
			t.Errorf("%d attempts did not reach a server that is no longer full", n)
		}
		for range 10 {
			server <- nil
		}
	})
}
