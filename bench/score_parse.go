package bench

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseValue reads a number. An empty field and the usual words for a missing
// value are NaN.
func parseValue(text string) (float64, error) {
	text = strings.TrimSpace(text)
	switch strings.ToLower(text) {
	case "", "nan", "null", "none", "na", "n/a":
		return math.NaN(), nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(v, 0) {
		return 0, fmt.Errorf("value %q is not a number", text)
	}
	return v, nil
}
