package storetest

import (
	"testing"
	"time"

	"aiops/internal/model"
)

func apiKeys(t *testing.T, fresh FreshFunc) {
	s := setup(t, fresh)
	ctx := t.Context()
	ok(t, errOf(s.APIKeys(ctx)))
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	k := must(s.CreateAPIKey(ctx, model.APIKey{Name: "grafana", Role: model.RoleViewer, Prefix: "abc", Hash: "ff00", CreatedBy: "admin", ExpiresAt: expires}))(t)
	if k.ID == "" || k.CreatedAt.IsZero() {
		t.Fatalf("key %+v", k)
	}
	same(t, must(s.APIKeyByPrefix(ctx, "abc"))(t), k)
	if !k.Valid(time.Now()) || k.Valid(expires) {
		t.Error("the time at which the key expires is wrong")
	}
	wantKind(t, errOf(s.APIKeyByPrefix(ctx, "abd")), model.KindNotFound)
	wantKind(t, errOf(s.CreateAPIKey(ctx, model.APIKey{Name: "grafana", Role: model.RoleAdmin, Prefix: "abd", Hash: "1"})), model.KindConflict)

	before := must(s.AuthVersion(ctx))(t)
	revoked := must(s.RevokeAPIKey(ctx, k.ID))(t)
	if revoked.RevokedAt.IsZero() || revoked.Valid(time.Now()) {
		t.Errorf("revoked key %+v", revoked)
	}
	if must(s.AuthVersion(ctx))(t) <= before {
		t.Error("revoking a key is told to nobody")
	}
	same(t, must(s.RevokeAPIKey(ctx, k.ID))(t), revoked)
	wantKind(t, errOf(s.RevokeAPIKey(ctx, "key_none")), model.KindNotFound)
	again := must(s.CreateAPIKey(ctx, model.APIKey{Name: "grafana", Role: model.RoleAdmin, Prefix: "abd", Hash: "1"}))(t)
	if !again.ExpiresAt.IsZero() {
		t.Errorf("a key without an end expires at %s", again.ExpiresAt)
	}
	if all := must(s.APIKeys(ctx))(t); len(all) != 2 {
		t.Errorf("%d keys are listed", len(all))
	}
}

func sessions(t *testing.T, fresh FreshFunc) {
	s := setup(t, fresh)
	ctx := t.Context()
	k := must(s.CreateAPIKey(ctx, model.APIKey{Name: "me", Role: model.RoleOperator, Prefix: "p", Hash: "h"}))(t)
	expires := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	one := must(s.CreateSession(ctx, model.Session{Hash: "one", KeyID: k.ID, ExpiresAt: expires}))(t)
	must(s.CreateSession(ctx, model.Session{Hash: "two", KeyID: k.ID, ExpiresAt: expires}))(t)
	must(s.CreateSession(ctx, model.Session{Hash: "old", KeyID: k.ID, ExpiresAt: time.Now().Add(-time.Minute)}))(t)
	wantKind(t, errOf(s.CreateSession(ctx, model.Session{Hash: "x", KeyID: "key_none"})), model.KindNotFound)

	got, key, err := s.SessionByHash(ctx, "one")
	ok(t, err)
	same(t, got, one)
	same(t, key, k)

	before := must(s.AuthVersion(ctx))(t)
	ok(t, s.DeleteSession(ctx, one.ID))
	ok(t, s.DeleteSession(ctx, one.ID))
	if must(s.AuthVersion(ctx))(t) <= before {
		t.Error("ending a session is told to nobody")
	}
	_, _, err = s.SessionByHash(ctx, "one")
	wantKind(t, err, model.KindNotFound)

	if n := must(s.PruneSessions(ctx, time.Now()))(t); n != 1 {
		t.Errorf("%d sessions pruned, want the expired one", n)
	}
	must(s.RevokeAPIKey(ctx, k.ID))(t)
	_, _, err = s.SessionByHash(ctx, "two")
	wantKind(t, err, model.KindNotFound)
	wantKind(t, errOf(s.CreateSession(ctx, model.Session{Hash: "y", KeyID: k.ID, ExpiresAt: expires})), model.KindNotFound)
}

func errOf[T any](_ T, err error) error { return err }
