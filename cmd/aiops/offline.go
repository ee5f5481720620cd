package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"aiops/internal/app"
)

// storeFlags are shared by the commands that use what a server has stored.
type storeFlags struct {
	Config  string `help:"Configuration file (YAML)." env:"AIOPS_CONFIG" placeholder:"FILE" type:"path"`
	DataDir string `help:"Directory of everything that is kept. Default ./aiops-data." placeholder:"DIR"`
}

func (f storeFlags) options(e *environment) app.Options {
	return app.Options{ConfigFile: f.Config, DataDir: f.DataDir, Env: os.LookupEnv, Log: e.stderr}
}

type backtestCommand struct {
	storeFlags
	Detector string    `help:"File with one detector, as under detectors: in the configuration." required:"" placeholder:"FILE" type:"path"`
	From     time.Time `help:"Start, RFC 3339." required:"" placeholder:"T"`
	To       time.Time `help:"End, RFC 3339." required:"" placeholder:"T"`
}

// Run prints the result as JSON; progress goes to standard error.
func (c *backtestCommand) Run(e *environment) error {
	if !c.To.After(c.From) {
		return usageError{fmt.Errorf("--to %s is not after --from %s", c.To.Format(time.RFC3339), c.From.Format(time.RFC3339))}
	}
	last := -1
	result, err := app.Backtest(e.ctx, c.options(e), c.Detector, c.From, c.To, func(p float64) {
		if percent := int(p * 100); percent/10 > last/10 {
			last = percent
			fmt.Fprintf(e.stderr, "%d %%\n", percent)
		}
	})
	if err != nil {
		return err
	}
	return printJSON(e, result)
}

type explainCommand struct {
	storeFlags
	ID string `arg:"" name:"anomaly-id" help:"Id of an anomaly."`
}

// Run prints the explanation, and fails when the evidence gives another
// result than the one that was stored.
func (c *explainCommand) Run(e *environment) error {
	text, reproduced, err := app.Explain(e.ctx, c.options(e), c.ID)
	if err != nil {
		return err
	}
	fmt.Fprint(e.stdout, text)
	if !reproduced {
		return fmt.Errorf("%s could not be computed again as it was stored; see the last line above", c.ID)
	}
	return nil
}

type backupCommand struct {
	storeFlags
	To string `help:"File to write; it must not exist." required:"" placeholder:"FILE" type:"path"`
}

// Run writes the copy.
func (c *backupCommand) Run(e *environment) error {
	if err := app.Backup(e.ctx, c.options(e), c.To); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "wrote %s; its secrets are encrypted: keep the master key, apart from it, too\n", c.To)
	return nil
}

type restoreCommand struct {
	storeFlags
	From string `help:"Backup to restore." required:"" placeholder:"FILE" type:"existingfile"`
}

// Run replaces the database.
func (c *restoreCommand) Run(e *environment) error {
	if err := app.Restore(e.ctx, c.options(e), c.From); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "restored %s; a database that was there stays beside the new one, named .before-restore\n", c.From)
	return nil
}

type migrateCommand struct{ storeFlags }

// Run opens the database, which migrates it.
func (c *migrateCommand) Run(e *environment) error {
	if err := app.Migrate(e.ctx, c.options(e)); err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, "the database is at this version")
	return nil
}

func printJSON(e *environment, v any) error {
	encoder := json.NewEncoder(e.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
