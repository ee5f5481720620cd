package admission

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"aiops/internal/model"
)

// Config says how much is let in. The zero value takes the defaults that stand
// at each field.
type Config struct {
	// Disabled lets everything in: for a program behind a gateway that does
	// this work already, and to measure what it is good for.
	Disabled bool `yaml:"disabled,omitempty"`
	// MaxConcurrency is the most requests in flight, however long they wait for
	// something else than a CPU; 0 is 64 for each CPU.
	MaxConcurrency int `yaml:"max_concurrency,omitempty"`
	// TargetDelay is how long work may wait for a CPU before the limit is
	// cut; 0 is 10 ms. A tenth of it brings the limit back to where it rests
	// while this process itself keeps the CPUs busy.
	TargetDelay model.Duration `yaml:"target_delay,omitempty"`
	// Client is the rate of one address (an IPv6 network of 64 bits counts as
	// one); 0 is 200 requests a second with bursts of 1,000.
	Client Rate `yaml:"client,omitempty"`
	// Loopback is the same for this machine's own addresses; 0 is 20,000 with
	// bursts of 40,000, which is more than two CPUs serve.
	Loopback Rate `yaml:"loopback,omitempty"`
	// Key is the rate of one identity, wherever it asks from; 0 is 200
	// requests a second with bursts of 1,000.
	Key Rate `yaml:"key,omitempty"`
	// MaxClients is how many clients' rates are remembered; 0 is 50,000, at
	// about 200 bytes each. The busiest ones stay.
	MaxClients int `yaml:"max_clients,omitempty"`
	// TrustedProxies are the networks of reverse proxies, whose
	// X-Forwarded-For is believed; default none.
	TrustedProxies []string `yaml:"trusted_proxies,omitempty"`
	// MemoryBytes is how much memory the program may use before it counts as
	// pressed; 0 is GOMEMLIMIT, the container's limit, or the machine's memory.
	MemoryBytes int64 `yaml:"memory_bytes,omitempty"`
}

// Rate is a token bucket: it holds Burst requests and gets PerSecond new ones.
type Rate struct {
	PerSecond float64 `yaml:"requests_per_second,omitempty"`
	Burst     int     `yaml:"burst,omitempty"`
}

// Bounds of the configuration.
const (
	maxPerSecond   = 1e6
	maxBurst       = 10_000_000
	maxConcurrency = 100_000
	maxTracked     = 10_000_000
	maxProxies     = 1000
)

// Validate finds every fault of the configuration at once.
func (c Config) Validate() error {
	var v model.Invalid
	if c.MaxConcurrency != 0 && (c.MaxConcurrency < floorOf() || c.MaxConcurrency > maxConcurrency) {
		v.Add("/max_concurrency", "out_of_range", "max_concurrency is from %d to %d, or 0 for the default", floorOf(), maxConcurrency)
	}
	if d := c.TargetDelay.Std(); d != 0 && (d < time.Millisecond || d > time.Second) {
		v.Add("/target_delay", "out_of_range", "target_delay is from 1ms to 1s, or 0 for the default")
	}
	for _, r := range []struct {
		name string
		Rate
	}{{"client", c.Client}, {"loopback", c.Loopback}, {"key", c.Key}} {
		if !(r.PerSecond >= 0 && r.PerSecond <= maxPerSecond) {
			v.Add("/"+r.name+"/requests_per_second", "out_of_range", "requests_per_second is from 0 to %.0f", maxPerSecond)
		}
		if r.Burst < 0 || r.Burst > maxBurst {
			v.Add("/"+r.name+"/burst", "out_of_range", "burst is from 0 to %d", maxBurst)
		}
	}
	if c.MaxClients < 0 || c.MaxClients > maxTracked {
		v.Add("/max_clients", "out_of_range", "max_clients is from 0 to %d", maxTracked)
	}
	if c.MemoryBytes < 0 {
		v.Add("/memory_bytes", "out_of_range", "memory_bytes is at least 0")
	}
	if len(c.TrustedProxies) > maxProxies {
		v.Add("/trusted_proxies", "length", "there are at most %d trusted proxies", maxProxies)
		return v.Err("")
	}
	for i, text := range c.TrustedProxies {
		if _, err := parseNetwork(text); err != nil {
			v.Add(fmt.Sprintf("/trusted_proxies/%d", i), "network", "%q is no network such as 10.0.0.0/8 and no address", text)
		}
	}
	return v.Err("")
}

func parseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

// WithDefaults returns the configuration with every default in its place.
func (c Config) WithDefaults() Config {
	if c.MaxConcurrency == 0 {
		c.MaxConcurrency = 64 * runtime.GOMAXPROCS(0)
	}
	if c.TargetDelay == 0 {
		c.TargetDelay = model.Duration(10 * time.Millisecond)
	}
	c.Client = c.Client.orElse(200, 1000)
	c.Loopback = c.Loopback.orElse(20_000, 40_000)
	c.Key = c.Key.orElse(200, 1000)
	if c.MaxClients == 0 {
		c.MaxClients = 50_000
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = memoryLimit()
	}
	return c
}

func (r Rate) orElse(perSecond float64, burst int) Rate {
	if r.PerSecond == 0 {
		r.PerSecond = perSecond
	}
	if r.Burst == 0 {
		if r.Burst = int(5 * r.PerSecond); r.PerSecond == perSecond {
			r.Burst = burst
		}
		r.Burst = max(1, r.Burst)
	}
	return r
}
