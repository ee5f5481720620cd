package config

import (
	_ "embed"
	"fmt"
	"slices"
)

//go:embed defaults.yaml
var defaultDetectors []byte

//go:embed demo.yaml
var demoDetectors []byte

// AddProvided adds the detectors that come with the program: those for this
// host and the program itself unless the host is not watched, and those for
// the demo's shop when demo is set. A detector of the file with the same name
// stays as it is.
func (c *Config) AddProvided(demo bool, validate ValidateDetectorFunc) error {
	add := func(name string, data []byte) error {
		provided, err := Parse(name, data, func(string) (string, bool) { return "", false }, validate)
		if err != nil {
			return fmt.Errorf("BUG: the detectors that come with the program: %w", err)
		}
		for _, d := range provided.Detectors {
			if !slices.ContainsFunc(c.Detectors, func(own Detector) bool { return own.Name == d.Name }) {
				c.Detectors = append(c.Detectors, d)
			}
		}
		return nil
	}
	if !c.Builtin.Host.Disabled {
		if err := add("defaults.yaml", defaultDetectors); err != nil {
			return err
		}
	}
	if demo {
		return add("demo.yaml", demoDetectors)
	}
	return nil
}
