package store

import (
	"net/url"
	"path/filepath"
	"time"

	"aiops/internal/model"
)

// Config says where the truth is kept. The zero value is a SQLite database in
// ./aiops-data.
type Config struct {
	// DataDir holds the lock, the key file and the SQLite database. Default
	// "aiops-data". Relative paths are relative to the working directory.
	DataDir string `yaml:"-" json:"-"`

	// SQLite is the embedded database, used unless Postgres.URL is set.
	SQLite SQLiteConfig `yaml:"sqlite" json:"sqlite"`

	// Postgres is the database that several nodes share.
	Postgres PostgresConfig `yaml:"postgres" json:"postgres"`

	// MasterKey protects the secrets of sources. Any text of at least 32
	// characters. When it is empty, a key is kept in DataDir/master.key (mode
	// 0600), made on the first start. Nodes that share a database need the same.
	MasterKey model.Secret `yaml:"master_key" json:"master_key"`

	// PreviousMasterKey opens what an earlier MasterKey wrote; everything is
	// then encrypted anew at start.
	PreviousMasterKey model.Secret `yaml:"previous_master_key" json:"previous_master_key"`

	// Retention says how long what is finished is kept.
	Retention Retention `yaml:"retention" json:"retention"`

	// WriteQueue is how many writes may wait for the writer; further callers
	// block until there is room or their context ends. Default 1024.
	WriteQueue int `yaml:"write_queue" json:"write_queue"`

	// WriteBatch is how many writes share one commit at most. Default 256.
	WriteBatch int `yaml:"write_batch" json:"write_batch"`

	synchronous string // SQLite's PRAGMA synchronous; the control of the power-cut test lowers it
}

// SQLiteConfig is the embedded database.
type SQLiteConfig struct {
	Path    string `yaml:"path" json:"path"`       // default DataDir/aiops.db
	Readers int    `yaml:"readers" json:"readers"` // connections for reading; default 8
}

// PostgresConfig is the shared database.
type PostgresConfig struct {
	URL            model.Secret `yaml:"url" json:"url"`                         // postgres://user:password@host:port/database
	MaxConnections int          `yaml:"max_connections" json:"max_connections"` // of this node, and one that asks whether the server is there; default 20, least 4
}

// Retention bounds what grows with time. A zero field takes the default; a
// negative one keeps for ever.
type Retention struct {
	Events    model.Duration `yaml:"events" json:"events"`       // default 7 days
	Anomalies model.Duration `yaml:"anomalies" json:"anomalies"` // resolved ones; default 400 days
	Tasks     model.Duration `yaml:"tasks" json:"tasks"`         // finished ones; default 30 days
}

const (
	minMasterKey = 32
	day          = 24 * time.Hour
)

// Validate returns every fault of c at once as a KindInvalid error.
func (c Config) Validate() error {
	var v model.Invalid
	if c.Postgres.URL != "" {
		if c.SQLite.Path != "" {
			v.Add("/postgres", "conflict", "set either sqlite or postgres, not both")
		}
		u, err := url.Parse(c.Postgres.URL.Reveal())
		if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			v.Add("/postgres/url", "format", "the PostgreSQL URL has the form postgres://user:password@host:5432/database")
		}
		if n := c.Postgres.MaxConnections; n != 0 && n < 4 {
			v.Add("/postgres/max_connections", "out_of_range", "max_connections is %d; at least 4 are needed", n)
		}
	}
	for _, k := range []struct {
		pointer string
		key     model.Secret
	}{{"/master_key", c.MasterKey}, {"/previous_master_key", c.PreviousMasterKey}} {
		if n := len(k.key); n > 0 && n < minMasterKey {
			v.Add(k.pointer, "too_short", "the master key has %d characters; use at least %d, such as the output of: openssl rand -base64 32", n, minMasterKey)
		}
	}
	if c.SQLite.Readers < 0 || c.SQLite.Readers > 256 {
		v.Add("/sqlite/readers", "out_of_range", "readers is %d; it lies between 1 and 256", c.SQLite.Readers)
	}
	if c.WriteQueue < 0 || c.WriteQueue > 1<<20 {
		v.Add("/write_queue", "out_of_range", "write_queue is %d; it lies between 1 and %d", c.WriteQueue, 1<<20)
	}
	if c.WriteBatch < 0 || c.WriteBatch > 1<<16 {
		v.Add("/write_batch", "out_of_range", "write_batch is %d; it lies between 1 and %d", c.WriteBatch, 1<<16)
	}
	return v.Err("storage")
}

func (c Config) withDefaults() Config {
	if c.DataDir == "" {
		c.DataDir = "aiops-data"
	}
	if c.SQLite.Path == "" {
		c.SQLite.Path = filepath.Join(c.DataDir, "aiops.db")
	}
	if c.SQLite.Readers == 0 {
		c.SQLite.Readers = 8
	}
	if c.Postgres.MaxConnections == 0 {
		c.Postgres.MaxConnections = 20
	}
	if c.WriteQueue == 0 {
		c.WriteQueue = 1024
	}
	if c.WriteBatch == 0 {
		c.WriteBatch = 256
	}
	if c.synchronous == "" {
		c.synchronous = "FULL"
	}
	def := func(d *model.Duration, v time.Duration) {
		if *d == 0 {
			*d = model.Duration(v)
		}
	}
	def(&c.Retention.Events, 7*day)
	def(&c.Retention.Anomalies, 400*day)
	def(&c.Retention.Tasks, 30*day)
	return c
}
