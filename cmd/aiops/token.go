package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"aiops/internal/app"
	"aiops/internal/model"
)

type tokenCommand struct {
	Create tokenCreate `cmd:"" help:"Make an API key and print it, once."`
	List   tokenList   `cmd:"" help:"List API keys."`
	Revoke tokenRevoke `cmd:"" help:"Revoke an API key; its sessions and streams end."`
}

type tokenCreate struct {
	storeFlags
	Name    string        `help:"What the key is for." required:"" placeholder:"NAME"`
	Role    string        `help:"viewer, operator or admin." enum:"viewer,operator,admin" default:"viewer"`
	Expires time.Duration `help:"How long it is valid, such as 2160h; default until it is revoked." placeholder:"DURATION"`
}

// Run prints the key alone on standard output, so that it can be piped.
func (c *tokenCreate) Run(e *environment) error {
	made, err := app.CreateToken(e.ctx, c.options(e), c.Name, model.Role(c.Role), c.Expires)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "key %s (%s, %s); it is not shown again:\n", made.ID, made.Name, made.Role)
	fmt.Fprintln(e.stdout, made.Key)
	return nil
}

type tokenList struct{ storeFlags }

// Run prints a table.
func (c *tokenList) Run(e *environment) error {
	list, err := app.Tokens(e.ctx, c.options(e))
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tNAME\tROLE\tSTATE\tPREFIX\tCREATED\tEXPIRES")
	for _, k := range list {
		expires := "never"
		if k.ExpiresAt != nil {
			expires = k.ExpiresAt.Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, k.Role, k.State, k.Prefix, k.CreatedAt.Format(time.RFC3339), expires)
	}
	return t.Flush()
}

type tokenRevoke struct {
	storeFlags
	ID string `arg:"" help:"Id of the key, as list shows it."`
}

// Run revokes.
func (c *tokenRevoke) Run(e *environment) error {
	if err := app.RevokeToken(e.ctx, c.options(e), c.ID); err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "%s is revoked\n", c.ID)
	return nil
}
