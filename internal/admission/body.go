package admission

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"

	"aiops/internal/model"
)

// A body that arrives slowly must not hold a place among the requests in
// flight, so its beginning is read before the request asks for one.
const (
	aheadBytes  = 32 << 10 // of one body
	aheadBudget = 16 << 20 // of all bodies
	aheadChunk  = 4 << 10
	aheadTime   = 10 * time.Second
	restTime    = 60 * time.Second // for the rest, unless whoever reads it says otherwise

	// Longer bodies are refused by whoever reads them, so there is no need to
	// wait for their beginnings.
	longestIngest = 64 << 20
	longestOther  = 1 << 20
)

// ahead reads the beginnings of bodies, in bounded memory.
type ahead struct{ budget *semaphore.Weighted }

func newAhead() *ahead { return &ahead{semaphore.NewWeighted(aheadBudget)} }

// read reads up to aheadBytes of r's body and puts them back in front of the
// rest; a body that breaks off breaks off again for whoever reads it. done gives
// the memory back. The error is a KindOverloaded: no memory was left.
func (a *ahead) read(w http.ResponseWriter, r *http.Request, class Class) (done func(), err error) {
	done = func() {}
	longest := int64(longestOther)
	if class == Ingest {
		longest = longestIngest
	}
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 || r.ContentLength > longest {
		return done, nil
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(aheadTime))
	held := int64(0)
	done = func() { a.budget.Release(held) }
	var text bytes.Buffer
	for text.Len() < aheadBytes {
		if held-int64(text.Len()) < aheadChunk {
			if !a.budget.TryAcquire(aheadChunk) {
				return done, model.Errorf(model.KindOverloaded, "", "Too many bodies are being read at once. Send it again shortly.")
			}
			held += aheadChunk
		}
		_, fault := io.CopyN(&text, r.Body, min(aheadChunk, aheadBytes-int64(text.Len())))
		if errors.Is(fault, io.EOF) {
			_ = conn.SetReadDeadline(time.Time{})
			r.Body = &joined{Reader: &text, Closer: r.Body}
			return done, nil
		}
		if fault != nil { // whoever reads the body meets it there
			// The deadline stays: net/http reads what is left before it answers.
			r.Body = &joined{Reader: io.MultiReader(&text, failing{fault}), Closer: r.Body}
			return done, nil //nolint:nilerr // it is met again
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(restTime))
	r.Body = &joined{Reader: io.MultiReader(&text, r.Body), Closer: r.Body}
	return done, nil
}

type joined struct {
	io.Reader
	io.Closer
}

// failing is the rest of a body that did not arrive: whoever reads it says so.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
