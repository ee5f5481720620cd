package intake

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// errMessage marks a body that is not the protobuf message it should be.
var errMessage = errors.New("malformed protobuf message")

// field is one field of a protobuf message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64 // of a varint or a fixed number
	data   []byte // of what has a length
}

// fields calls visit with each field of a message, in order. It allocates
// nothing, so that the memory of decoding follows from what visit keeps.
func fields(data []byte, visit func(f field) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errMessage
		}
		data = data[n:]
		f := field{number: number, kind: kind}
		switch kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(data)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(data)
		case protowire.Fixed32Type:
			if n = -1; len(data) >= 4 {
				f.value, n = uint64(binary.LittleEndian.Uint32(data)), 4
			}
		case protowire.BytesType:
			f.data, n = protowire.ConsumeBytes(data)
		default:
			return fmt.Errorf("%w: a group", errMessage)
		}
		if n < 0 {
			return errMessage
		}
		data = data[n:]
		if err := visit(f); err != nil {
			return err
		}
	}
	return nil
}

func (f field) message() ([]byte, error) {
	if f.kind != protowire.BytesType {
		return nil, fmt.Errorf("%w: field %d has another type", errMessage, f.number)
	}
	return f.data, nil
}

func (f field) text() (string, error) {
	data, err := f.message()
	return string(data), err
}

func (f field) integer() (int64, error) {
	if f.kind == protowire.BytesType {
		return 0, fmt.Errorf("%w: field %d has another type", errMessage, f.number)
	}
	return int64(f.value), nil
}
