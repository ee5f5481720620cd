//go:build !linux

package builtin

// hostCollectors returns none: the host's files are those of Linux.
func hostCollectors(HostConfig) ([]*collector, error) { return nil, nil }
