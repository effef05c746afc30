package main

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8/cwriter"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/sim"
)

// simulateFlags are the flags of simulate.
type simulateFlags struct {
	scenario  string
	compare   []string
	policies  []string
	processes int
	shared    bool
	seed      uint64
	html      string
	svg       string
}

func (a *app) simulateCommand() *cobra.Command {
	f := simulateFlags{scenario: "outage", seed: 1}
	c := &cobra.Command{
		Use:   "simulate [flags]",
		Short: "Compare what policies do to a service that fails",
		Long: `Play a fault of a service in virtual time, once for each policy, and compare how much traffic is lost,
how many attempts reach the service, and how long it takes to recover; and say what to change.

Retry, circuit breaker, budget and gate are those of real calls; the service and the network are a model.

` + simulate.Help(),
		Example: `  perdure simulate
  perdure simulate --scenario brownout --compare none,backoff,service --html brownout.html
  perdure simulate --scenario storm.yaml --policy policy.yaml --json`,
		Args:                  help.Exactly(0, "none"),
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := exit.OnSignal(c.Context())
			defer stop()
			return a.simulate(ctx, &f)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.scenario, "scenario", f.scenario, "`name` of a scenario, or a YAML file with one (outage)")
	flags.StringSliceVar(&f.compare, "compare", nil, "`names` of policies, separated by commas ("+simulate.DefaultNames+")")
	flags.StringArrayVar(&f.policies, "policy", nil, "YAML `file` with a policy to compare; may be given more than once")
	flags.Var(policy.Whole(&f.processes, 1, 100_000), "processes", "how many processes the calls come from (20)")
	flags.BoolVar(&f.shared, "shared", false, "the processes share one state, as those of one host do")
	flags.Uint64Var(&f.seed, "seed", f.seed, "`number` that decides what is random (1)")
	flags.StringVar(&f.html, "html", "", "write a page with pictures to this `file`; - is standard output, which has no table then")
	flags.StringVar(&f.svg, "svg", "", "write a picture of what succeeds over time to this `file`; - is standard output, which has no table then")
	_ = c.RegisterFlagCompletionFunc("scenario", cobra.FixedCompletions(simulate.ScenarioNames(), cobra.ShellCompDirectiveDefault))
	_ = c.RegisterFlagCompletionFunc("compare", cobra.FixedCompletions(simulate.PolicyNames(), cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) simulate(ctx context.Context, f *simulateFlags) error {
	if err := f.check(a.json); err != nil {
		return err
	}
	var s sim.Scenario
	var all []sim.Contender
	err := exit.Until(ctx, func() (err error) { // a file may be a pipe to which nobody writes
		if s, all, err = f.read(); err != nil {
			return exit.UsageError(err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range simulate.DropLimits(all) {
		a.log.Warn(name+": rate, burst and concurrency are not simulated", "event", "warning", "policy", name)
	}
	progress := simulate.Progress{Log: a.log}
	if !a.json && cwriter.IsTerminal(int(a.stderr.Fd())) {
		progress.Terminal = a.stderr
	}
	compared, err := simulate.Run(ctx, s, f.seed, all, progress.Tell)
	progress.End()
	if bad, ok := errors.AsType[*sim.Error](err); ok { // as two flags make it
		return exit.UsageError(bad)
	}
	if err != nil {
		return err
	}
	pictures := []output{{f.html, compared.HTML}, {f.svg, compared.SVG}}
	for _, picture := range pictures {
		if err := picture.save(ctx); err != nil {
			return err
		}
	}
	for _, picture := range pictures {
		if picture.file == "-" {
			return picture.write(a.stdout)
		}
	}
	if a.json {
		return compared.JSON(report.ForJSON(a.stdout))
	}
	return compared.Table(a.stdout)
}

// check refuses several things on one standard output.
func (f *simulateFlags) check(json bool) error {
	switch {
	case f.html == "-" && json:
		return setting.Bad("--html", f.html, "a file, where standard output has JSON")
	case f.svg == "-" && json:
		return setting.Bad("--svg", f.svg, "a file, where standard output has JSON")
	case f.svg == "-" && f.html == "-":
		return setting.Bad("--svg", f.svg, "a file, where standard output has the page")
	}
	return nil
}

// An output is a page or a picture, and its file; "" means that it is not wanted.
type output struct {
	file  string
	write func(io.Writer) error
}

// save writes it to its file, unless that is standard output.
func (d output) save(ctx context.Context) error {
	if d.file == "" || d.file == "-" {
		return nil
	}
	var text bytes.Buffer
	if err := d.write(&text); err != nil {
		return err
	}
	return endpoint.WriteFile(ctx, d.file, text.Bytes())
}

// read returns the scenario and the policies that the flags name.
func (f *simulateFlags) read() (sim.Scenario, []sim.Contender, error) {
	s, err := simulate.Scenario(f.scenario, "--scenario")
	if err != nil {
		return s, nil, err
	}
	if f.processes > 0 {
		s.Clients.Processes = f.processes
	}
	s.Clients.Shared = s.Clients.Shared || f.shared
	all, err := simulate.Policies(f.compare, f.policies)
	return s, all, err
}
