package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"aiops/internal/api"
	"aiops/internal/auth"
	"aiops/internal/config"
	"aiops/internal/model"
	"aiops/internal/realtime"
)

// localKeyFile holds the key of commands that run on the same data directory.
// It is of one run of the server, which removes it when it stops.
const localKeyFile = "local.key"

// buildGuard makes what asks everybody who he is.
func (p *program) buildGuard(c config.Config) error {
	guard, local := auth.New(c.Auth, p.store, p.log, time.Now)
	path := filepath.Join(c.DataDir, localKeyFile)
	// A file that is there may have other permissions, so it is made anew.
	if err := errors.Join(removed(path), os.WriteFile(path, []byte(local+"\n"), 0o600)); err != nil {
		return fmt.Errorf("leaving a key for commands on this machine: %w", err)
	}
	p.life.onStop("local key", func(context.Context) error { return removed(path) })
	p.guard, p.localKey = guard, local
	p.life.run("authentication", guard.Run)
	if !config.Loopback(c.Server.Listen) {
		p.log.Info("keys and sessions go over this address unencrypted; put a proxy that ends TLS in front", "listen", c.Server.Listen)
	}
	return nil
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// authority is the guard as the gateway asks for it.
func (p *program) authority() realtime.Authority {
	if p.guard == nil {
		return nil
	}
	return p.guard
}

// authenticator is the guard as the API asks for it.
func (p *program) authenticator() api.Authenticator {
	if p.guard == nil {
		return nil
	}
	return p.guard
}

// CreateToken makes an API key and returns its text, which is kept nowhere.
func CreateToken(ctx context.Context, o Options, name string, role model.Role, lifetime time.Duration) (made api.NewToken, err error) {
	err = o.withKeys(ctx, func(s server) error {
		body := map[string]any{"name": name, "role": role, "expires_in": model.Duration(lifetime).String()}
		return s.ask(ctx, http.MethodPost, "/api/v1/tokens", body, &made)
	}, func(keys auth.Store) error {
		k, text, err := auth.CreateKey(ctx, keys, name, role, lifetime, auth.ViaLocal, time.Now())
		made = api.NewToken{Token: api.TokenOf(k, time.Now()), Key: text}
		return err
	})
	return made, err
}

// Tokens lists every API key, the newest first.
func Tokens(ctx context.Context, o Options) (list []api.Token, err error) {
	err = o.withKeys(ctx, func(s server) error {
		var answer struct{ Items []api.Token }
		err := s.ask(ctx, http.MethodGet, "/api/v1/tokens", nil, &answer)
		list = answer.Items
		return err
	}, func(keys auth.Store) error {
		all, err := keys.APIKeys(ctx)
		for _, k := range all {
			list = append(list, api.TokenOf(k, time.Now()))
		}
		return err
	})
	return list, err
}

// RevokeToken ends an API key, with its sessions and streams.
func RevokeToken(ctx context.Context, o Options, id string) error {
	if id == "" || strings.ContainsAny(id, "/?#%") {
		return model.Errorf(model.KindInvalid, "", "%q is not the id of a key; aiops token list shows them", id)
	}
	return o.withKeys(ctx, func(s server) error {
		var gone api.Token
		return s.ask(ctx, http.MethodDelete, "/api/v1/tokens/"+id, nil, &gone)
	}, func(keys auth.Store) error {
		_, err := keys.RevokeAPIKey(ctx, id)
		return err
	})
}

// withKeys asks the server that runs on the data directory, or else opens the
// store.
func (o Options) withKeys(ctx context.Context, remote func(server) error, here func(auth.Store) error) error {
	c, err := o.load()
	if err != nil {
		return err
	}
	if running, ok := o.runningServer(ctx, c.DataDir); ok {
		return remote(running)
	}
	s, _, err := o.openStore(ctx)
	if err != nil {
		return err
	}
	return errors.Join(here(s), s.Close())
}
