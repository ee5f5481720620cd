//go:build race

package detect_test

// raceEnabled makes tests score fewer samples.
const raceEnabled = true
