package store

import "errors"

// WithSynchronous lowers what the embedded database syncs: the control of the
// power-cut harness.
func (c Config) WithSynchronous(level string) Config {
	c.synchronous = level
	return c
}

// IgnoreSpace stops looking at the disk before writing, so that the database
// itself meets the end of it.
func (s *Store) IgnoreSpace() {
	s.space = nil
}

// LoseWrites makes every further write vanish, as if the process had ended.
func (s *Store) LoseWrites() { s.fail(errors.New("simulated end of the process")) }
