package postgres

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"aiops/internal/model"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	d := &DB{}
	for _, c := range []struct {
		err   error
		kind  model.Kind
		fatal bool
	}{
		{&pgconn.PgError{Code: "53100"}, model.KindStorageFull, false},
		{&pgconn.PgError{Code: "23505"}, model.KindConflict, false},
		{&pgconn.PgError{Code: "57014"}, model.KindTimeout, false},
		{&pgconn.PgError{Code: "XX001"}, model.KindDatabase, true},
		{&pgconn.PgError{Code: "XX002"}, model.KindDatabase, true},
		{&pgconn.PgError{Code: "58030"}, model.KindDatabase, false},
		{&pgconn.PgError{Code: "57P01"}, model.KindUnavailable, false},
		{&pgconn.PgError{Code: "53300"}, model.KindUnavailable, false},
		{&pgconn.PgError{Code: "40P01"}, model.KindDatabase, false},
		{&pgconn.PgError{Code: "42601"}, model.KindInternal, false},
		{&pgconn.PgError{}, model.KindInternal, false},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, model.KindUnavailable, false},
		{io.ErrUnexpectedEOF, model.KindUnavailable, false},
		{errSilent, model.KindUnavailable, false},
		{driver.ErrBadConn, model.KindUnavailable, false},
		{&pgconn.PgError{Code: "08006"}, model.KindUnavailable, false},
		{errors.New("odd"), model.KindInternal, false},
		{nil, model.KindInternal, false},
	} {
		kind, fatal := d.Classify(fmt.Errorf("wrapped: %w", c.err))
		if kind != c.kind || fatal != c.fatal {
			t.Errorf("%v is %q, fatal %v; want %q, %v", c.err, kind, fatal, c.kind, c.fatal)
		}
	}
}

func TestErrorsHideThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://u:hidden@127.0.0.1:1/db?sslmode=disable", "postgres://u:hidden@h:port/db", "postgres://u:hid%zzden@h/db"} {
		_, err := Open(t.Context(), Options{URL: model.Secret(url)})
		if err == nil || strings.Contains(fmt.Sprintf("%+v", err), "hid") {
			t.Errorf("opening %s: %+v", url, err)
		}
	}
}
