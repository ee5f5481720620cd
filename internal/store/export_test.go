package store

// WithSynchronous lowers what the embedded database syncs: the control of the
// power-cut harness.
func (c Config) WithSynchronous(level string) Config {
	c.synchronous = level
	return c
}
