package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/dagster"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/run"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// runFlags are the flags of run besides those of every policy.
type runFlags struct {
	policy      *policy.Flags
	again, stop run.Codes
	buffer      bool
	replay      bool
	killAfter   time.Duration // 0: the default
	wait        time.Duration // 0 means do not wait
	dagster     dagster.Mode
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a command until it succeeds",
		Long: `Run a command, and run it again if it fails, with growing waits between the attempts.

Any exit code but 0 is a failure worth a retry, unless the lists say otherwise. PERDURE_ATTEMPT tells
the command which attempt it is. Signals are forwarded to its process group; after one that asks to
end, there is no retry.

Each attempt reads a file or a heredoc from where it began. From a pipe, on Linux, the command takes what
it reads and no more, so that it can stand in a loop like "while read": another attempt gets the same
again, and then what follows. Elsewhere, and from a terminal or a socket, another attempt reads on where
the last one ended. With --replay-stdin, all of a pipe or a socket is read and given to each attempt.

With --name, a circuit breaker guards the command, which all runs of that name share: while it is open,
they end at once with code 75 and the instant to come back, or wait for that with --wait. With --rate as
well, no more attempts begin than it says, of all those runs: they wait for their turn, up to --max-elapsed
and --wait, or else --max-delay.

Started by Dagster, it reports each retry and how it ended. --dagster says what the command itself has to
do with Dagster: with strip nothing; with relay it may report, and what an attempt reports counts if that
succeeds; with passthrough it is run once and reports alone. After a signal it has --kill-after to end
(10, at most 10).

The exit code is the last attempt's: 128+n if signal n ended it, 124 if it took its timeout for a
success, 126 or 127 if the command cannot be executed or does not exist. Without an attempt, or if
a signal came between two, it is 64 (wrong usage), 75 (come back later) or 128+n.`,
		Example: `  perdure run -- curl -fsS https://example.com/stations.json
  perdure run --max-attempts 3 --base-delay 0.5 --attempt-timeout 60 -- make fetch
  producer | perdure run --stop-on-exit 2,64-78 --name load -- psql -f -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "" {
				return errors.New("a command to run is missing: perdure run [flags] -- COMMAND [ARG...]")
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			return a.run(c, &f, args)
		},
	}
	flags := c.Flags()
	flags.SetInterspersed(false) // what follows the command is the command's
	flags.Var(&f.again, "retry-on-exit", "retry only these exit `codes`, as 1,2,64-78 (all but 0)")
	flags.Var(&f.stop, "stop-on-exit", "never retry these exit `codes`; wins")
	flags.BoolVar(&f.buffer, "buffer", false, "keep standard output back, and write only that of the last attempt")
	flags.BoolVar(&f.replay, "replay-stdin", false, "read all of standard input, and give it to each attempt (only what it reads)")
	flags.Var(policy.Wait(&f.killAfter), "kill-after", "`seconds` from the end of --attempt-timeout to the kill by force (5)")
	addWait(flags, &f.wait)
	flags.Var(&f.dagster, "dagster", "what the command has to do with Dagster, if that has started us: strip, relay or passthrough (strip)")
	_ = flags.SetAnnotation("dagster", policy.Words, dagster.Modes())
	f.policy = policy.Add(flags)
	for _, name := range []string{"max-retry-after", "respect-retry-after"} { // no command asks for a wait
		flags.Lookup(name).Hidden = true
	}
	return c
}

// run runs the command args.
func (a *app) run(c *cobra.Command, f *runFlags, args []string) error {
	mode, err := f.dagster.Or(a.environ)
	if err != nil {
		return err
	}
	if mode != dagster.Passthrough {
		a.report(c.Context())
	}
	if err := a.dagster.ApplyExtras(f.policy); err != nil {
		return err
	}
	s, err := a.settings(f.policy)
	if err != nil {
		return err
	}
	p := s.Policy
	if err := knowsCommands(c.Flags(), &p); err != nil {
		return err
	}
	p.Classify = run.Classify(&f.again, &f.stop)
	if mode == dagster.Passthrough && dagster.Launched(a.environ) {
		a.log.Debug("One attempt: the command reports to Dagster by itself", "event", "passthrough")
		p.MaxAttempts = 1
	}
	if p.Name == "" {
		if err := needsName(s, c.Flags()); err != nil {
			return err
		}
		p.Name = filepath.Base(args[0])
	} else {
		store, err := state.Open(s.Store, a.log)
		if err != nil {
			return s.AtSource(err)
		}
		defer store.Close()
		store.LendPlaces()
		s.Breaker.Store, s.Breaker.Log = store, a.log
		p.Breaker = circuit.New(state.Of(p.Name), s.Breaker)
		store.Ready(c.Context())
	}
	p.Observe = a.dagster.Observe(p.Breaker, a.attempted(retry.LogTo(a.log)))
	command := &run.Command{
		Args: args, Policy: &p, Waiter: a.waiter(f.wait), Buffer: f.buffer, Grace: cmp.Or(f.killAfter, 5*time.Second),
		ReplayAll: f.replay, Note: func(event, text string) { a.log.Info(text, "event", event) },
		Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Environ: a.environ,
		Mark: run.Chosen(&f.again, &f.stop),
	}
	command.Waiter.AtGate = atGate(&p)
	defer a.dagster.ConfigureCommand(command, mode, f.killAfter)()
	begin := time.Now()
	err = command.Run(c.Context())
	a.log.Debug(p.Name+" ended", "event", "ended", "operation", p.Name,
		"attempts", command.Attempts(), "elapsed", time.Since(begin), "exit_code", exit.Code(err))
	return err
}

// attempted leaves out of what people read that nothing was tried: the error that
// the command ends with says so, or the line about the wait.
func (a *app) attempted(observe func(context.Context, retry.Event)) func(context.Context, retry.Event) {
	return func(ctx context.Context, e retry.Event) {
		if a.json || e.Kind != retry.Stopped || e.Attempt > 0 {
			observe(ctx, e)
		}
	}
}

// knowsCommands refuses a list of errors of which none is one that a command can end with: it would be without effect, or
// keep all attempts but the first from being made.
func knowsCommands(flags *pflag.FlagSet, p *retry.Policy) error {
	for _, list := range []struct {
		flag, exits string
		has, known  []string
	}{
		{"retry-on", "--retry-on-exit", p.RetryOn, []string{"timeout", "default"}},
		{"ignore-on", "--stop-on-exit", p.IgnoreOn, []string{"timeout"}},
	} {
		known := func(entry string) bool { return slices.Contains(list.known, entry) }
		if flags.Changed(list.flag) && !slices.ContainsFunc(list.has, known) {
			return setting.Bad("--"+list.flag, strings.Join(list.has, ","), fmt.Sprintf(
				"a list with %s: a command ends with exit codes, which are for %s", strings.Join(list.known, " or "), list.exits))
		}
	}
	return nil
}

// needsName refuses flags that would do nothing: a run without a name has no
// circuit breaker, so that one broken command never blocks another.
func needsName(s *policy.Settings, flags *pflag.FlagSet) error {
	const want = "used with --name: a run without a name has no circuit breaker"
	for _, p := range policy.Parameters() {
		if (p.Breaker || p.Name == "store") && flags.Changed(p.Flag()) {
			return setting.Bad(s.Given(p.Name), flags.Lookup(p.Flag()).Value, want)
		}
	}
	if flags.Changed("wait") {
		return setting.Bad("--wait", flags.Lookup("wait").Value, want)
	}
	return nil
}
