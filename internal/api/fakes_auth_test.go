package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"aiops/internal/auth"
	"aiops/internal/model"
)

// fakeAuth takes the name of a role for a key. Without a credential it takes
// everybody for an administrator unless strict.
type fakeAuth struct {
	*world
	strict bool
}

func (f fakeAuth) FromRequest(r *http.Request, _ string) (auth.Identity, error) {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if key == "" {
		if value := auth.SessionOf(r); value != "" {
			key = value
		} else if f.strict {
			return auth.Identity{}, auth.ErrNone
		} else {
			return auth.Anonymous(), nil
		}
	}
	return f.identity(key)
}

func (f fakeAuth) identity(key string) (auth.Identity, error) {
	for _, role := range append(model.Roles(), "nobody") {
		if key == string(role) {
			return auth.Identity{Subject: "key_" + key, Name: key, Role: role, Via: auth.ViaKey}, nil
		}
	}
	if key == "flood" {
		return auth.Identity{}, &model.Error{Kind: model.KindRateLimit, Message: "Too many.", RetryAfter: time.Second}
	}
	return auth.Identity{}, model.Errorf(model.KindUnauthorized, "", "The key is not valid.")
}

func (f fakeAuth) SignIn(_ context.Context, _, key string) (string, auth.Identity, error) {
	if key == exampleKey {
		key = "viewer"
	}
	id, err := f.identity(key)
	return key, id, err
}

func (f fakeAuth) SignOut(context.Context, string) error { return f.fails() }

func (f fakeAuth) Keys(context.Context) ([]model.APIKey, error) {
	return []model.APIKey{{ID: "key_1", Name: "one", Role: model.RoleViewer, Prefix: "p", Hash: "hash-canary", CreatedAt: testTime, ExpiresAt: testTime},
		{ID: "key_2", Name: "two", Role: model.RoleAdmin, RevokedAt: testTime, CreatedAt: testTime}}, f.fails()
}

func (f fakeAuth) CreateKey(_ context.Context, name string, role model.Role, lifetime time.Duration, by string) (model.APIKey, string, error) {
	return model.APIKey{ID: "key_3", Name: name, Role: role, CreatedBy: by, CreatedAt: testTime, ExpiresAt: testTime.Add(lifetime)}, exampleKey, f.fails()
}

func (f fakeAuth) RevokeKey(_ context.Context, id string) (model.APIKey, error) {
	if id != "key_1" {
		return model.APIKey{}, model.Errorf(model.KindNotFound, "", "There is no such API key.")
	}
	return model.APIKey{ID: id, RevokedAt: testTime, Role: model.RoleViewer, CreatedAt: testTime}, f.fails()
}

// fails is the failure that the world was told to have.
func (f fakeAuth) fails() error {
	defer f.lock()()
	return f.fail
}

func (w *world) Streams() ([]model.LiveStream, int64) {
	return []model.LiveStream{{ID: "c1", Kind: "websocket", State: "live", Role: model.RoleViewer, Name: "grafana", Topics: []string{"anomalies"}, ConnectedAt: testTime, LastSeenAt: testTime}}, 41
}
