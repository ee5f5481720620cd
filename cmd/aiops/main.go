// Command aiops watches metrics and logs, learns what is normal, says what
// broke and how sure it is. This file owns flags, signals and exit codes; the
// work is in package app and package bench.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"aiops/internal/app"
	"aiops/internal/config"
	"aiops/internal/telemetry"
)

// Exit codes.
const (
	exitStopped = 0 // as asked
	exitFailed  = 1 // while running
	exitUsage   = 2 // wrong usage or configuration
)

// commands is the program's command line.
type commands struct {
	Serve    serveCommand    `cmd:"" help:"Watch, and serve the page and the API."`
	Demo     demoCommand     `cmd:"" help:"Serve, plus a small shop of real services under load with faults on a schedule."`
	Check    checkCommand    `cmd:"" help:"Check a configuration file and point at what is wrong."`
	Backtest backtestCommand `cmd:"" help:"Say what a detector would have done over a past range."`
	Explain  explainCommand  `cmd:"" help:"Explain an anomaly and compute it again from its stored evidence."`
	Bench    benchCommand    `cmd:"" help:"Measure this machine and this build."`
	Score    scoreCommand    `cmd:"" help:"Score a CSV file of timestamp,value."`
	Mine     mineCommand     `cmd:"" help:"Mine templates from log lines, one message per line."`
	Token    tokenCommand    `cmd:"" help:"Make, list and revoke API keys."`
	Backup   backupCommand   `cmd:"" help:"Write a consistent copy of the database; servers go on."`
	Restore  restoreCommand  `cmd:"" help:"Put a backup in the place of the database of a server that is stopped."`
	Migrate  migrateCommand  `cmd:"" help:"Bring the database to this version, with a snapshot before."`
	Version  versionCommand  `cmd:"" help:"Print which build this is."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// usageError is a mistake of whoever typed the command.
type usageError struct{ error }

// run parses args, runs one command and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("aiops"),
		kong.Description("Watches metrics and logs, learns what is normal, says what broke, how sure it is and why."),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
	)
	if err != nil {
		fmt.Fprintln(stderr, "aiops:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 { // --help
		return exit
	}
	if err != nil {
		fmt.Fprintln(stderr, "aiops:", err)
		fmt.Fprintln(stderr, "Run aiops --help for the commands.")
		return exitUsage
	}
	ctx, stop := signalContext(stderr)
	defer stop()
	err = parsed.Run(&environment{ctx: ctx, stdout: stdout, stderr: stderr})
	var usage usageError
	var file *config.Error
	switch {
	case err == nil:
		return exitStopped
	case errors.As(err, &file):
		fmt.Fprintln(stderr, file)
		return exitUsage
	case errors.As(err, &usage), errors.Is(err, app.ErrConfig):
		fmt.Fprintln(stderr, "aiops:", err)
		return exitUsage
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "aiops: interrupted")
		return exitFailed
	}
	fmt.Fprintln(stderr, "aiops:", err)
	return exitFailed
}

// environment is what every command gets.
type environment struct {
	ctx    context.Context // ends at the first SIGINT or SIGTERM
	stdout io.Writer
	stderr io.Writer
}

// signalContext returns a context that ends at the first SIGINT or SIGTERM. A
// second one ends the process at once: everything acknowledged is on disk.
func signalContext(stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
			return
		}
		select {
		case <-signals:
			fmt.Fprintln(stderr, "aiops: stopped at once, as asked twice")
			os.Exit(exitFailed)
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done); cancel() }
}

// serveFlags are shared by the commands that serve.
type serveFlags struct {
	Config  string `help:"Configuration file (YAML)." env:"AIOPS_CONFIG" placeholder:"FILE" type:"path"`
	Listen  string `help:"Address to listen on; loopback only without authentication. Default 127.0.0.1:8080." placeholder:"HOST:PORT"`
	DataDir string `help:"Directory of everything that is kept. Default ./aiops-data." placeholder:"DIR"`
}

func (f serveFlags) options(e *environment) app.Options {
	return app.Options{ConfigFile: f.Config, Listen: f.Listen, DataDir: f.DataDir, Env: os.LookupEnv, Log: e.stderr}
}

type serveCommand struct{ serveFlags }

// Run serves until a signal.
func (c *serveCommand) Run(e *environment) error { return serve(e, c.options(e)) }

type demoCommand struct {
	serveFlags
	Seed uint64 `help:"Of the load and the order of faults." default:"1"`
}

// Run serves with the shop until a signal.
func (c *demoCommand) Run(e *environment) error {
	o := c.options(e)
	o.Demo, o.DemoSeed = true, c.Seed
	return serve(e, o)
}

func serve(e *environment, o app.Options) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	reload := make(chan struct{})
	go func() {
		for range hangups {
			select {
			case reload <- struct{}{}:
			case <-e.ctx.Done():
				return
			}
		}
	}()
	o.Reload = reload
	o.Serving = func(url string) { fmt.Fprintf(e.stdout, "aiops is at %s\n", url) }
	return app.Run(e.ctx, o)
}

type checkCommand struct {
	File string `arg:"" help:"Configuration file." type:"path"`
}

// Run checks a file and says that it is fine, or what is not.
func (c *checkCommand) Run(e *environment) error {
	parsed, err := app.LoadConfig(c.File, os.LookupEnv)
	if err != nil {
		return fmt.Errorf("%w: %w", app.ErrConfig, err)
	}
	fmt.Fprintf(e.stdout, "%s is valid: %d sources, %d detectors\n", c.File, len(parsed.Sources), len(parsed.Detectors))
	return nil
}

type versionCommand struct{}

// Run prints the build.
func (versionCommand) Run(e *environment) error {
	fmt.Fprintln(e.stdout, telemetry.BuildInfo())
	return nil
}
