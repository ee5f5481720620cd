package source

import (
	"github.com/cespare/xxhash/v2"

	"aiops/internal/model"
)

// hashLabels hashes labels so that different label sets hash differently but
// for chance. A byte that is not UTF-8 ends each text, so that no two splits of
// the same bytes are alike.
func hashLabels(ls model.Labels) uint64 {
	var stack [256]byte
	buf := stack[:0]
	for _, l := range ls {
		buf = append(buf, l.Name...)
		buf = append(buf, 0xff)
		buf = append(buf, l.Value...)
		buf = append(buf, 0xff)
	}
	return xxhash.Sum64(buf)
}
