package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// full is the code of a server that has no connection left.
const full = "53300"

// gate makes the connections of the pools. Each refusal of a server that is full
// costs it a process, so that many who try at once wait for seconds. While it is
// full one tries at a time; the others get what the last one got, at once.
type gate struct {
	driver.Connector

	state *gateState
}

// gateState is what the pools of one server share. The zero value is ready.
type gateState struct {
	mu     sync.Mutex
	full   error // the last answer of a server that is full; nil when it is not
	trying bool  // while it is full
}

// Connect makes a connection.
func (g gate) Connect(ctx context.Context) (driver.Conn, error) {
	alone, err := g.state.enter()
	if err != nil {
		return nil, err
	}
	conn, err := g.Connector.Connect(ctx)
	g.state.leave(alone, err)
	return conn, err
}

// enter reports whether the caller is the one that tries a server that is full.
func (s *gateState) enter() (alone bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full == nil {
		return false, nil
	}
	if s.trying {
		return false, s.full
	}
	s.trying = true
	return true, nil
}

// leave notes what came of an attempt.
func (s *gateState) leave(alone bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if alone {
		s.trying = false
	}
	s.full = nil
	if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == full {
		s.full = err
	}
}
