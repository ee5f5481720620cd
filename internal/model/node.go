package model

import (
	"errors"
	"time"
)

// Node is a process that shares the detectors of one database with others.
type Node struct {
	Name      string // of its data directory: stays over restarts
	Instance  string // of this life of it; "" when it left
	Host      string // of the machine, for people
	JoinedAt  time.Time
	StartedAt time.Time
	Live      bool // its lease has not expired, by the database's clock
	Leaving   bool // it gives its detectors away and takes none
}

// Lease says which node evaluates a detector.
type Lease struct {
	DetectorID string
	Instance   string        // of the node; "" when nobody does
	Token      int64         // grows each time the lease is taken
	Report     []byte        // what the owner wrote last of the detector; nil: nothing
	ReportAge  time.Duration // by the database's clock
}

// Cluster is who shares a database, and what each of them evaluates, at one
// moment.
type Cluster struct {
	Nodes  []Node  // by name
	Leases []Lease // by detector
}

// LeaseReport is what the owner of a detector tells the other nodes of it.
type LeaseReport struct {
	DetectorID string
	Token      int64
	Report     []byte
}

// IsDeposed reports whether a write was refused because another node has taken
// over what it is about. Nothing of it was written, and nothing more may be.
func IsDeposed(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == KindConflict && e.Subject == SubjectLease
}

// Provision says which definitions the configuration file of a node had when
// they were applied last.
type Provision struct {
	Node      string // of its data directory
	Host      string // of the machine, for people
	Print     string // differs when the definitions do
	AppliedAt time.Time
	Live      bool // the node's lease has not expired
	Mine      bool // it is this node
}
