package logmine

import "aiops/internal/model"

// Config bounds a miner. The zero value means the defaults; they are meant for
// every system, not to be tuned for one.
type Config struct {
	// Seed is mixed into every hash of words and lines, but not into ids. The
	// default of 0 makes miners alike; a secret seed takes from whoever writes
	// the lines the means to make two of them collide.
	Seed uint64
	// MaxTemplates is the most templates that are kept, 16 to 65536; 4096 by
	// default. For a further one those are evicted that are seen least.
	MaxTemplates int
	// MaxStateBytes is the most memory for templates, 64 KiB to 1 GiB; 4 MiB by
	// default. The fixed tables take about half a megabyte more.
	MaxStateBytes int
	// MaxLineBytes is the longest prefix of a line that is looked at, 64 to
	// 16384; 4096 by default. The template of a longer line ends in a variable.
	MaxLineBytes int
	// MaxTokens is the most words and variables of a line that are looked at,
	// 8 to 256; 128 by default. What follows them is a variable.
	MaxTokens int
}

const (
	defaultTemplates  = 4096
	defaultStateBytes = 4 << 20
	defaultLineBytes  = 4096
	defaultTokens     = 128
)

func (c Config) withDefaults() Config {
	if c.MaxTemplates == 0 {
		c.MaxTemplates = defaultTemplates
	}
	if c.MaxStateBytes == 0 {
		c.MaxStateBytes = defaultStateBytes
	}
	if c.MaxLineBytes == 0 {
		c.MaxLineBytes = defaultLineBytes
	}
	if c.MaxTokens == 0 {
		c.MaxTokens = defaultTokens
	}
	return c
}

// Validate returns a model.Error that names every bound out of its range.
func (c Config) Validate() error {
	c = c.withDefaults()
	var bad model.Invalid
	check := func(pointer string, v, low, high int) {
		if v < low || v > high {
			bad.Add(pointer, "out_of_range", "%s is %d; choose from %d to %d, or 0 for the default", pointer[1:], v, low, high)
		}
	}
	check("/max_templates", c.MaxTemplates, 16, 1<<16)
	check("/max_state_bytes", c.MaxStateBytes, 64<<10, 1<<30)
	check("/max_line_bytes", c.MaxLineBytes, 64, 16<<10)
	check("/max_tokens", c.MaxTokens, 8, hardItems)
	return bad.Err("log template miner")
}
