package nodes

import (
	"time"

	"aiops/internal/model"
)

// Config says how nodes that share a database watch each other. The zero value
// takes the defaults. All nodes should have the same.
type Config struct {
	// Lease is how long after its last sign of life the detectors of a node are
	// taken over; 0 is 8 s, least 1 s, most 5 min. The node renews it five times
	// in that time, and stops evaluating when it could not for two thirds of it.
	Lease model.Duration `yaml:"lease" json:"lease"`
}

const defaultLease = 8 * time.Second

// Validate returns what is wrong with c as a KindInvalid error.
func (c Config) Validate() error {
	var v model.Invalid
	if l := c.Lease.Std(); l != 0 && (l < time.Second || l > 5*time.Minute) {
		v.Add("/lease", "out_of_range", "lease is %s; it lies between 1s and 5m", c.Lease)
	}
	return v.Err("")
}

func (c Config) lease() time.Duration {
	if c.Lease == 0 {
		return defaultLease
	}
	return c.Lease.Std()
}
