package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"aiops/internal/model"
)

// once serves a request with an Idempotency-Key: run carries it out, unless an
// answer is stored. It reports whether ans holds an answer to send.
func (s *server) once(w http.ResponseWriter, r *http.Request, key, hash string, ans *answer, run func(*http.Request)) bool {
	ctx := r.Context()
	if !printable(key) || len(key) > 255 {
		return refuseKey(ctx, w, "Idempotency-Key is 1 to 255 printable ASCII characters.")
	}
	if s.opts.Idempotency == nil {
		return refuseKey(ctx, w, "This program keeps no Idempotency-Keys; send the request without one.")
	}
	k := model.IdempotencyKey{Principal: identityOf(ctx).Subject, Key: key, Operation: r.Method + " " + r.URL.RequestURI(), BodyHash: hash}
	state, stored, err := s.opts.Idempotency.Begin(ctx, k)
	switch {
	case err == nil && state == model.IdempotencyReplay && stored == nil:
		err = errors.New("BUG: a finished key without an answer")
	case err == nil && state == model.IdempotencyInProgress:
		newProblem(CodeConflict, 0, "A request with this Idempotency-Key is being served. Wait for its answer.").stamp(ctx).write(w)
		return false
	case err == nil && state == model.IdempotencyUnanswered:
		newProblem(CodeConflict, 0, "The request with this Idempotency-Key was carried out, but its answer was lost. It is not carried out again; read the subject to see the result.").stamp(ctx).write(w)
		return false
	case err == nil && state == model.IdempotencyMismatch:
		return refuseKey(ctx, w, "This Idempotency-Key was used for another request. Make a new key for each request.")
	}
	if err != nil {
		failure(ctx, err).write(w)
		return false
	}
	if state == model.IdempotencyReplay {
		for name, values := range stored.Header {
			ans.header[name] = values
		}
		ans.header.Set("Idempotency-Replayed", "true")
		ans.status = stored.Status
		ans.body.Write(stored.Body)
		return true
	}
	settled := false
	defer func() {
		if !settled { // a panic: nothing was answered
			s.settle(ctx, k, nil)
		}
	}()
	run(r.WithContext(s.opts.Idempotency.Bind(ctx, k)))
	settled = true
	s.settle(ctx, k, keptAnswer(ans))
	return true
}

func refuseKey(ctx context.Context, w http.ResponseWriter, detail string) bool {
	p := newProblem(CodeValidation, 0, detail).stamp(ctx)
	p.Errors = []ProblemField{{Pointer: "/Idempotency-Key", In: "header", Code: "idempotency_key", Detail: detail}}
	p.write(w)
	return false
}

// keptAnswer is what is stored of an answer; nil gives the key back, because
// the same request may succeed later.
func keptAnswer(ans *answer) *model.StoredAnswer {
	if ans.status == 0 || ans.status >= 500 || ans.status == http.StatusTooManyRequests {
		return nil
	}
	kept := http.Header{}
	for _, name := range []string{"Content-Type", "ETag", "Location"} {
		if v := ans.header.Get(name); v != "" {
			kept.Set(name, v)
		}
	}
	return &model.StoredAnswer{Status: ans.status, Header: kept, Body: ans.body.Bytes()}
}

// settle stores an answer, or gives the key back, even when the client has
// left. A failure cannot be answered any more; it is logged.
func (s *server) settle(ctx context.Context, k model.IdempotencyKey, a *model.StoredAnswer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.opts.Idempotency.Finish(ctx, k, a)
	for wait := 50 * time.Millisecond; err != nil && wait < 500*time.Millisecond; wait *= 4 {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		err = s.opts.Idempotency.Finish(ctx, k, a)
	}
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "idempotency key not settled", slog.Any("err", err), slog.String("request_id", RequestID(ctx)))
	}
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}
