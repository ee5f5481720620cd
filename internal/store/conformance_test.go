package store_test

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"aiops/internal/model"
	"aiops/internal/store"
	"aiops/internal/store/storetest"
	"aiops/internal/testkit"
)

func TestMain(m *testing.M) {
	if o := os.Getenv(childEnv); o != "" {
		os.Exit(childMain(o))
	}
	code := m.Run()
	if server.p != nil {
		if err := server.p.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// server is the one PostgreSQL of this test binary: every test has a database
// of its own on it.
var server struct {
	once sync.Once
	p    *testkit.Postgres
	err  error
	n    atomic.Int64
}

func postgresConfig(t testing.TB) store.Config {
	t.Helper()
	server.once.Do(func() { server.p, server.err = testkit.StartPostgres() })
	testkit.SkipWithoutPostgres(t, server.err)
	url, err := server.p.CreateDatabase(fmt.Sprintf("test_%d", server.n.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return store.Config{DataDir: t.TempDir(), Postgres: store.PostgresConfig{URL: model.Secret(url), MaxConnections: 4}}
}

func sqliteConfig(t testing.TB) store.Config { return store.Config{DataDir: t.TempDir()} }

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Config { return sqliteConfig(t) })
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Config { return postgresConfig(t) })
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }
