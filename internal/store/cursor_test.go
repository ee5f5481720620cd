package store

import (
	"encoding/base64"
	"math"
	"testing"

	"aiops/internal/model"
)

// FuzzCursor throws texts at the reader of cursors: it never panics, refuses
// with a KindInvalid, and accepts nothing that it did not sign.
func FuzzCursor(f *testing.F) {
	keys, err := openKeyring(Config{MasterKey: "a key of at least 32 characters, fuzz"})
	if err != nil {
		f.Fatal(err)
	}
	s := &Store{keys: keys}
	sorts := map[string]sortKey{"name": {column: "name", text: true}, "score": {column: "score", float: true}, "at": {column: "at"}}
	signed := map[string]bool{}
	for sort, key := range map[string]any{"name": "ä\x00'", "score": math.Inf(-1), "at": int64(-5)} {
		p, err := s.newPage("list", sorts, "at", sort, "", 0)
		if err != nil {
			f.Fatal(err)
		}
		c := p.next(key, "id_1")
		back, err := s.newPage("list", sorts, "at", sort, c, 0)
		if err != nil || back.after[0] != key || back.after[1] != "id_1" {
			f.Fatalf("cursor of %v reads as %v, %v", key, back, err)
		}
		signed[c] = true
		f.Add(sort, c)
		f.Add("-"+sort, c)
		f.Add(sort, c[:len(c)-1])
	}
	f.Add("name", base64.RawURLEncoding.EncodeToString(make([]byte, 17)))
	f.Add("score", "")
	f.Fuzz(func(t *testing.T, sort, cursor string) {
		_, err := s.newPage("list", sorts, "at", sort, cursor, 0)
		switch {
		case err == nil && cursor != "" && !signed[cursor]:
			t.Errorf("%q is accepted", cursor)
		case err != nil && model.KindOf(err) != model.KindInvalid:
			t.Errorf("%q: %v", cursor, err)
		}
	})
}
