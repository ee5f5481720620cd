//go:build race

package e2e

// raced: the program is built with the race detector when the tests are, so
// that one cache serves both and a race in the program fails a test.
const raced = true
