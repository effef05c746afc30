package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	policyfile "github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/sim"
)

// simulateFlags are the flags of simulate.
type simulateFlags struct {
	scenario  string
	compare   []string
	policies  []string
	file      *policy.Flags
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
		Short: "Compare policies against a simulated failing service",
		Long: `Simulate a fault of a service in virtual time, once for each policy. Compare how much traffic is lost, how
many attempts reach the service, and how long recovery takes; and advise what to change.

Retries, circuit breaker, budget and gate run the code of real calls; service and network are a model.

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
	flags.StringVar(&f.scenario, "scenario", f.scenario, "`name` of a scenario, or of a YAML file with one")
	flags.StringSliceVar(&f.compare, "compare", nil, "`names` of policies, separated by commas ("+simulate.DefaultNames+")")
	flags.StringArrayVar(&f.policies, "policy", nil, "`policy` to compare: the name of one in the policy file, or a YAML file; repeatable")
	f.file = policy.AddFile(flags)
	flags.Var(policy.Whole(&f.processes, 1, 100_000), "processes", fmt.Sprintf("`number` of processes that make the calls (%d)", sim.Storm("").Clients.Processes))
	flags.BoolVar(&f.shared, "shared", false, "all processes share the state of the breaker, as on one host")
	flags.Uint64Var(&f.seed, "seed", f.seed, "`number` that seeds all random choices")
	flags.StringVar(&f.html, "html", "", "write an HTML page to this `file`; - writes it to standard output, in place of the table")
	flags.StringVar(&f.svg, "svg", "", "write a picture of the success over time to this `file`; - writes it to standard output, in place of the table")
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
	err := exit.Until(ctx, func() (err error) { // a file may be a pipe without a writer
		if s, all, err = f.read(a.environ); err != nil {
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
	if !a.json && term.IsTerminal(int(a.stderr.Fd())) {
		progress.Terminal = a.stderr
	}
	compared, err := simulate.Run(ctx, s, f.seed, all, progress.Report)
	progress.End()
	if bad, ok := errors.AsType[*sim.Error](err); ok { // two flags that contradict each other
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

// check returns an error if standard output would get more than one result.
func (f *simulateFlags) check(json bool) error {
	switch {
	case f.html == "-" && json:
		return setting.Bad("--html", f.html, "a file: standard output has the JSON")
	case f.svg == "-" && json:
		return setting.Bad("--svg", f.svg, "a file: standard output has the JSON")
	case f.svg == "-" && f.html == "-":
		return setting.Bad("--svg", f.svg, "a file: standard output has the page")
	}
	return nil
}

// An output is a page or a picture with its file; "" means do not write it.
type output struct {
	file  string
	write func(io.Writer) error
}

// save writes the output to its file, unless that is standard output.
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
func (f *simulateFlags) read(environ []string) (sim.Scenario, []sim.Contender, error) {
	s, err := simulate.Scenario(f.scenario, "--scenario")
	if err != nil {
		return s, nil, err
	}
	if f.processes > 0 {
		s.Clients.Processes = f.processes
	}
	s.Clients.Shared = s.Clients.Shared || f.shared
	var file *policyfile.File
	if len(f.policies) > 0 {
		if file, err = f.file.Policies(environ); err != nil {
			return s, nil, err
		}
	}
	all, err := simulate.Policies(f.compare, f.policies, file)
	return s, all, err
}
