package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/gob"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"aiops/internal/model"
)

// codec packs blobs. Both halves are safe for concurrent use of EncodeAll and
// DecodeAll, and start no goroutine for these.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// maxDecoded bounds what a damaged or foreign blob can make us allocate.
const maxDecoded = 1 << 30

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("preparing compression: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxDecoded), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("preparing compression: %w", err)
	}
	return &codec{enc, dec}, nil
}

func (c *codec) pack(b []byte) []byte { return c.enc.EncodeAll(b, make([]byte, 0, len(b)/2+64)) }

func (c *codec) unpack(b []byte) ([]byte, error) {
	out, err := c.dec.DecodeAll(b, nil)
	if err != nil {
		return nil, fmt.Errorf("decompressing: %w", err)
	}
	return out, nil
}

// packEvidence keeps every bit of the floats, NaN included.
func (c *codec) packEvidence(e model.Evidence) ([]byte, error) {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(e); err != nil {
		return nil, fmt.Errorf("encoding evidence: %w", err)
	}
	return c.pack(b.Bytes()), nil
}

// Evidence returns what an anomaly's peak was computed from, bit for bit, or a
// KindNotFound error when there is no such anomaly or no evidence of it.
func (s *Store) Evidence(ctx context.Context, id string) (model.Evidence, error) {
	var data []byte
	err := s.read.DB.QueryRowContext(ctx, `SELECT data FROM anomaly_evidence WHERE anomaly_id = $1`, cleanText(id)).Scan(&data)
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := s.Anomaly(ctx, id); err != nil {
			return model.Evidence{}, err
		}
		e := model.NotFound(model.SubjectAnomaly, id)
		e.Message = fmt.Sprintf("no evidence was stored for anomaly %q", id)
		return model.Evidence{}, e
	}
	if err != nil {
		return model.Evidence{}, s.wrap(err, "reading evidence")
	}
	raw, err := s.codec.unpack(data)
	var e model.Evidence
	if err == nil {
		err = gob.NewDecoder(bytes.NewReader(raw)).Decode(&e)
	}
	if err != nil {
		return model.Evidence{}, model.WrapError(model.KindDatabase, model.SubjectAnomaly, err, "the stored evidence of anomaly %s cannot be read", id)
	}
	return e, nil
}
