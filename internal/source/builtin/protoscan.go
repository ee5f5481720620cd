package builtin

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// errBadMessage marks bytes that are not the message they should be.
var errBadMessage = errors.New("malformed message")

// Decoding a message allocates far more than its bytes when it consists of very
// many very small parts. scanCost walks over a message without allocating and
// adds up about what its parts will take, so that a hostile one is refused first.
const (
	costSeries    = 160 // an entry in the list of series, with its lists
	costLabel     = 48
	costSample    = 32
	costExemplar  = 96
	costHistogram = 512
	costMetadata  = 96
	costSymbol    = 24
	costFactor    = 8       // packed integers grow from a byte to eight
	maxLabelBytes = 1 << 16 // of one name or value
)

// The numbers of the fields that matter, which are the two protocols'.
const (
	v1Series, v1Metadata                                      = 1, 3
	v1Labels, v1Samples, v1Exemplars, v1Histograms            = 1, 2, 3, 4
	v2Symbols, v2Series                                       = 4, 5
	v2LabelRefs, v2Samples, v2Histograms, v2Exemplars, v2Meta = 1, 2, 3, 4, 5
)

// scanCost estimates the memory that decoding message will take, or returns an
// errBadMessage.
func scanCost(message []byte, version2 bool) (int64, error) {
	var cost int64
	err := eachField(message, func(number protowire.Number, value []byte) error {
		switch {
		case !version2 && number == v1Series, version2 && number == v2Series:
			c, err := scanSeries(value, version2)
			cost += costSeries + c
			return err
		case !version2 && number == v1Metadata:
			cost += costMetadata + int64(len(value))
		case version2 && number == v2Symbols:
			if len(value) > maxLabelBytes {
				return fmt.Errorf("%w: a label of more than %d bytes", errBadMessage, maxLabelBytes)
			}
			cost += costSymbol + int64(len(value))
		}
		return nil
	})
	return cost, err
}

func scanSeries(message []byte, version2 bool) (int64, error) {
	var cost int64
	err := eachField(message, func(number protowire.Number, value []byte) error {
		size := int64(len(value))
		switch {
		case !version2 && number == v1Labels:
			if size > 2*maxLabelBytes {
				return fmt.Errorf("%w: a label of more than %d bytes", errBadMessage, maxLabelBytes)
			}
			cost += costLabel + size
		case version2 && number == v2LabelRefs:
			cost += costLabel*size/2 + 8
		case number == v1Samples && !version2, number == v2Samples && version2:
			cost += costSample
		case number == v1Exemplars && !version2, number == v2Exemplars && version2:
			cost += costExemplar + costFactor*size
		case number == v1Histograms && !version2, number == v2Histograms && version2:
			cost += costHistogram + costFactor*size
		default:
			cost += size
		}
		return nil
	})
	return cost, err
}

// eachField calls use for each field of a message: with its bytes, which are nil
// for fields that are plain numbers.
func eachField(message []byte, use func(number protowire.Number, value []byte) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return errBadMessage
		}
		message = message[n:]
		var value []byte
		if kind == protowire.BytesType {
			value, n = protowire.ConsumeBytes(message)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return errBadMessage
		}
		if err := use(number, value); err != nil {
			return err
		}
		message = message[n:]
	}
	return nil
}
