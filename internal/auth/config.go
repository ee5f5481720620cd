package auth

import (
	"time"

	"aiops/internal/model"
)

// Config says whether identities are asked for. The zero value asks nobody,
// which is allowed on loopback only.
type Config struct {
	// Enabled asks everybody for an API key or a session, but for probes.
	Enabled bool `yaml:"enabled" json:"enabled"`
	// SessionLifetime is how long a browser stays signed in; 0 is 12 h.
	SessionLifetime model.Duration `yaml:"session_lifetime,omitempty" json:"session_lifetime,omitempty"`
}

// Validate finds every fault of the configuration.
func (c Config) Validate() error {
	var v model.Invalid
	if d := c.SessionLifetime.Std(); d != 0 && (d < time.Minute || d > 90*24*time.Hour) {
		v.Add("/session_lifetime", "out_of_range", "session_lifetime is between 1m and 90d, not %s", c.SessionLifetime)
	}
	return v.Err("")
}

func (c Config) withDefaults() Config {
	if c.SessionLifetime == 0 {
		c.SessionLifetime = model.Duration(12 * time.Hour)
	}
	return c
}
