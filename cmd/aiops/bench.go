package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"aiops/bench"
)

type benchCommand struct {
	Accuracy  benchAccuracy  `cmd:"" help:"Accuracy of the models on labelled series."`
	Budget    benchBudget    `cmd:"" help:"False alarms on generated clean data against what was asked for."`
	Speed     benchSpeed     `cmd:"" help:"Samples per second and bytes per series of the models."`
	Live      benchLive      `cmd:"" help:"Delay, memory and correctness of the live stream."`
	Load      benchLoad      `cmd:"" help:"Latency, throughput and behaviour beyond what can be served."`
	Promotion benchPromotion `cmd:"" help:"Alarms of auto with and without promotion to deep."`
	Logs      benchLogs      `cmd:"" help:"Accuracy and speed of the log template miner."`
}

// report is what a measure returns: a table for people, and JSON.
type report interface {
	WriteTable(w io.Writer) error
	WriteJSON(w io.Writer) error
}

// show prints the table, and the JSON behind it or into file.
func show(e *environment, r report, file string) error {
	if err := r.WriteTable(e.stdout); err != nil {
		return err
	}
	if file == "" {
		fmt.Fprintln(e.stdout)
		return r.WriteJSON(e.stdout)
	}
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return errors.Join(r.WriteJSON(out), out.Close())
}

type benchAccuracy struct {
	Data    string   `help:"Folder with NAB, CMD, TODS and more.tar.xz." required:"" type:"existingdir"`
	Models  []string `help:"Models to measure; default all." placeholder:"NAME,..."`
	Sets    []string `help:"Data sets to measure; default all." placeholder:"NAME,..."`
	Every   int      `help:"Measure every n-th series only." default:"1"`
	Workers int      `help:"Series measured at the same time; default one per core."`
	JSON    string   `help:"Write the JSON to a file instead." placeholder:"FILE" type:"path"`
}

// Run measures and prints.
func (c *benchAccuracy) Run(e *environment) error {
	r, err := bench.Accuracy(e.ctx, bench.AccuracyOptions{
		Data: c.Data, Models: c.Models, Datasets: c.Sets, Every: c.Every, Workers: c.Workers,
		Progress: func(done, total int) {
			if done%50 == 0 || done == total {
				fmt.Fprintf(e.stderr, "%d of %d\n", done, total)
			}
		},
	})
	if err != nil {
		return err
	}
	return show(e, r, c.JSON)
}

type benchPromotion struct {
	Data  string   `help:"Folder with more.tar.xz." required:"" type:"existingdir"`
	Sets  []string `help:"Data sets to measure; default AIOPS, WSD and UCR." placeholder:"NAME,..."`
	Every int      `help:"Measure every n-th series only." default:"1"`
	JSON  string   `help:"Write the JSON to a file instead." placeholder:"FILE" type:"path"`
}

// Run measures and prints.
func (c *benchPromotion) Run(e *environment) error {
	r, err := bench.Promotion(e.ctx, bench.PromotionOptions{Data: c.Data, Datasets: c.Sets, Every: c.Every})
	if err != nil {
		return err
	}
	return show(e, r, c.JSON)
}

type benchBudget struct {
	Model   string        `help:"Model to measure." default:"auto"`
	Budgets []float64     `help:"False alarms per week; default 0.1, 1 and 10." placeholder:"N,..."`
	Series  []int         `help:"Series of the detector; default 1, 100 and 10000." placeholder:"N,..."`
	Step    time.Duration `help:"Of the series." default:"1h"`
	Kinds   []string      `help:"Kinds of clean data; default all." placeholder:"KIND,..."`
	Weeks   int           `help:"That count, after eight of history." default:"88"`
	Most    int           `help:"Series generated for many small detectors, which make a ratio surer." default:"1000"`
	Seed    uint64        `help:"Of the series; n series have the seeds from here to n further."`
	JSON    string        `help:"Write the JSON to a file instead." placeholder:"FILE" type:"path"`
}

// Run measures and prints.
func (c *benchBudget) Run(e *environment) error {
	r, err := bench.Budget(e.ctx, bench.BudgetOptions{Model: c.Model, Budgets: c.Budgets, Series: c.Series, Step: c.Step, Kinds: c.Kinds, Weeks: c.Weeks, Most: c.Most, Seed: c.Seed,
		Progress: func(done, total int) { fmt.Fprintf(e.stderr, "%d of %d\n", done, total) }})
	if err != nil {
		return err
	}
	return show(e, r, c.JSON)
}

type benchSpeed struct {
	Models  []string `help:"Models to measure; default all." placeholder:"NAME,..."`
	Samples int      `help:"Samples per model."`
	JSON    string   `help:"Write the JSON to a file instead." placeholder:"FILE" type:"path"`
}

// Run measures and prints.
func (c *benchSpeed) Run(e *environment) error {
	r, err := bench.Speed(e.ctx, bench.SpeedOptions{Models: c.Models, Samples: c.Samples})
	if err != nil {
		return err
	}
	return show(e, r, c.JSON)
}

type benchLogs struct {
	Data  string   `help:"Folder with a folder for each set: content.txt and gt.csv." required:"" type:"existingdir"`
	Sets  []string `help:"Sets to measure; default all." placeholder:"NAME,..."`
	Lines int      `help:"Length of the streams whose speed is measured; below 0 measures none." default:"1000000"`
	JSON  string   `help:"Write the JSON to a file instead." placeholder:"FILE" type:"path"`
}

// Run measures and prints.
func (c *benchLogs) Run(e *environment) error {
	r, err := bench.Logs(e.ctx, bench.LogsOptions{Data: c.Data, Sets: c.Sets, Lines: c.Lines, Progress: func(part string) { fmt.Fprintln(e.stderr, part) }})
	if err != nil {
		return err
	}
	return show(e, r, c.JSON)
}

type mineCommand struct {
	In  string `help:"Log lines, one message each; - is standard input." required:"" placeholder:"FILE"`
	Out string `help:"CSV of LineId,EventId,EventTemplate to write; - is standard output." required:"" placeholder:"FILE"`
}

// Run mines a file.
func (c *mineCommand) Run(e *environment) error {
	return transform(e, c.In, c.Out, func(_ context.Context, in io.Reader, out io.Writer) error {
		summary, err := bench.Mine(in, out)
		if err == nil {
			fmt.Fprintf(e.stderr, "%d lines, %d templates\n", summary.Lines, summary.Templates)
		}
		return err
	})
}

type benchLive struct {
	Clients int           `help:"WebSockets; the full form is 10000." default:"1000"`
	Rate    float64       `help:"Events per second to everybody; default 10, or 2 for more than 2000 clients."`
	For     time.Duration `help:"How long each side is measured; the full form is 10m." default:"10s"`
	Burst   int           `help:"Events at once." default:"100"`
	Crash   bool          `help:"Also kill the server and watch every client come back."`
	JSON    string        `help:"Write the JSON to a file instead." placeholder:"FILE" type:"path"`
}

// Run measures and prints. It starts this program again for the server and
// for the clients.
func (c *benchLive) Run(e *environment) error {
	r, err := bench.Live(e.ctx, bench.LiveOptions{Clients: c.Clients, Rate: c.Rate, For: c.For, Burst: c.Burst, Crash: c.Crash}, e.stderr)
	if err != nil {
		return err
	}
	return show(e, r, c.JSON)
}

type benchLoad struct {
	Connections int           `help:"Connections of the mixed reads." default:"1000"`
	Rate        float64       `help:"Mixed reads per second." default:"1000"`
	For         time.Duration `help:"How long each part lasts." default:"10s"`
	JSON        string        `help:"Write the JSON to a file instead." placeholder:"FILE" type:"path"`
}

// Run measures and prints. It starts this program again as the server.
func (c *benchLoad) Run(e *environment) error {
	r, err := bench.Load(e.ctx, bench.LoadOptions{Connections: c.Connections, Rate: c.Rate, For: c.For}, e.stderr)
	if err != nil {
		return err
	}
	return show(e, r, c.JSON)
}

type scoreCommand struct {
	In                 string  `help:"CSV of timestamp,value; - is standard input." required:"" placeholder:"FILE"`
	Out                string  `help:"CSV to write; - is standard output." required:"" placeholder:"FILE"`
	Model              string  `help:"Name of the model." default:"auto"`
	FalseAlarmsPerWeek float64 `help:"Tolerable false alarms." default:"1"`
	Plot               bool    `help:"Draw an SVG instead of writing rows."`
}

// Run scores a file.
func (c *scoreCommand) Run(e *environment) error {
	if c.Plot {
		return transform(e, c.In, c.Out, func(ctx context.Context, in io.Reader, out io.Writer) error {
			return bench.Plot(ctx, in, out, filepath.Base(c.In), 0, bench.ScoreOptions{Model: c.Model, FalseAlarmsPerWeek: c.FalseAlarmsPerWeek})
		})
	}
	return transform(e, c.In, c.Out, func(ctx context.Context, in io.Reader, out io.Writer) error {
		summary, err := bench.Score(ctx, in, out, bench.ScoreOptions{Model: c.Model, FalseAlarmsPerWeek: c.FalseAlarmsPerWeek})
		if err == nil {
			fmt.Fprintf(e.stderr, "%d rows, a step of %s, %d alarms\n", summary.Rows, summary.Step, summary.Alarms)
		}
		return err
	})
}

// transform reads one file and writes another. The output appears only when
// it is complete, so that a failure leaves no half of it behind.
func transform(e *environment, inFile, outFile string, f func(ctx context.Context, in io.Reader, out io.Writer) error) (err error) {
	var in io.Reader = os.Stdin
	if inFile != "-" {
		opened, err := os.Open(inFile)
		if err != nil {
			return usageError{err}
		}
		defer opened.Close()
		in = opened
	}
	if outFile == "-" {
		return f(e.ctx, in, e.stdout)
	}
	part, err := os.CreateTemp(filepath.Dir(outFile), ".aiops-*")
	if err != nil {
		return usageError{err}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(part.Name()))
		}
	}()
	if err := errors.Join(f(e.ctx, in, part), part.Chmod(0o644), part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), outFile)
}
