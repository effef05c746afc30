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
	outputs     run.Outputs
	buffer      bool
	replay      bool
	killAfter   time.Duration // 0 means the default
	wait        time.Duration // 0 means do not wait
	dagster     dagster.Mode
	metrics     metricsFile
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a command until it succeeds",
		Long: `Run a command, and run it again if it fails, with growing waits between the attempts.

Any exit code except 0 is retried, unless --retry-on-exit or --stop-on-exit is given, or --retry-on-output
or --stop-on-output, which look at what the command has written last. The environment
variable PERDURE_ATTEMPT has the number of the attempt. Signals are forwarded to the command's process
group; after a signal to end, there is no retry.

If standard input is a file or a heredoc, each attempt reads it from the same place. If it is a pipe, on
Linux, only what the command reads is removed from the pipe, so the command can run in a loop like "while
read": the next attempt reads the same bytes again, and then what follows. Elsewhere, and from a terminal
or a socket, the next attempt continues where the last one stopped reading. With --replay-stdin, all of a
pipe or a socket is read and replayed to each attempt.

With --name, a circuit breaker guards the command. All runs of that name share it: while it is open, they
end at once with exit code 75 and the instant to retry at, or wait with --wait. --rate limits the attempts
of all these runs: each waits for its turn, up to --max-elapsed or --wait, or else --max-delay.

Started by Dagster, it reports each retry and the outcome. --dagster says how the command itself may use
Dagster Pipes. strip: not at all. relay: it may report, and the reports of the attempt that succeeds are
sent. passthrough: it runs once and reports by itself. After a signal, the command has --kill-after to end
(10, at most 10).

The exit code is that of the last attempt: 128+n if signal n ended it, 124 if --attempt-timeout did,
126 if the command cannot be executed, 127 if it does not exist. If no attempt was made, or if a signal
came between two attempts, it is 64 (invalid usage), 75 (retry later) or 128+n.`,
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
	flags.SetInterspersed(false) // flags after COMMAND are those of the command
	flags.Var(&f.again, "retry-on-exit", "retry only these exit `codes`, such as 1,2,64-78 (all except 0)")
	flags.Var(&f.stop, "stop-on-exit", "never retry these exit `codes`; overrides --retry-on-exit")
	flags.Var(&f.outputs.Retry, "retry-on-output", "retry only failures with a `regex` (RE2) that matches one of the last 100 lines of output, and those of --retry-on-exit; can be repeated")
	flags.Var(&f.outputs.Stop, "stop-on-output", "never retry a failure with a `regex` that matches one of the last 100 lines of output; overrides all other flags; can be repeated")
	flags.BoolVar(&f.buffer, "buffer", false, "write only the standard output of the last attempt, when it has ended")
	flags.BoolVar(&f.replay, "replay-stdin", false, "read all of standard input, and replay it to each attempt (only what attempts read)")
	flags.Var(policy.Wait(&f.killAfter), "kill-after", fmt.Sprintf("`seconds` from SIGTERM, after --attempt-timeout, to SIGKILL (%.0f)", run.DefaultGrace.Seconds()))
	a.addWait(flags, &f.wait)
	flags.Var(&f.dagster, "dagster", "how the command may use Dagster Pipes, if Dagster has started perdure: strip, relay or passthrough (strip)")
	_ = flags.SetAnnotation("dagster", policy.Words, dagster.Modes())
	addMetricsFile(flags, &f.metrics)
	f.policy = policy.Add(flags)
	for _, name := range []string{"max-retry-after", "respect-retry-after"} {
		policy.Hide(flags.Lookup(name), "without effect here, since an exit code names no wait")
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
		a.openDagster(c.Context())
	}
	if err := a.dagster.ApplyExtras(f.policy); err != nil {
		return err
	}
	s, err := a.settings(f.policy)
	if err != nil {
		return err
	}
	if err := f.metrics.prepare(a); err != nil {
		return err
	}
	a.store = s.Store
	p := s.Policy
	p.Name = cmp.Or(p.Name, s.Chosen)
	p.Metrics = &f.metrics.registry
	defer func() { f.metrics.write(a, s.Store) }()
	if err := checkLists(c.Flags(), &p); err != nil {
		return err
	}
	p.Classify = run.Classify(&f.again, &f.stop, &f.outputs)
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
		done, err := a.guard(c.Context(), s, &p)
		if err != nil {
			return err
		}
		defer done()
	}
	p.Observe = a.dagster.Observe(p.Breaker, a.attempted(retry.LogTo(a.log)))
	command := &run.Command{
		Args: args, Policy: &p, Waiter: a.waiter(f.wait), Buffer: f.buffer, Grace: cmp.Or(f.killAfter, run.DefaultGrace),
		ReplayAll: f.replay, Note: func(event, text string) { a.log.Info(text, "event", event) },
		Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Environ: a.environ,
		Outputs: &f.outputs, Mark: run.Chosen(&f.again, &f.stop),
	}
	command.Waiter.AtGate = atGate(&p)
	defer a.dagster.ConfigureCommand(command, mode, f.killAfter)()
	begin := time.Now()
	err = command.Run(c.Context())
	a.log.Debug(p.Name+" ended", "event", "ended", "operation", p.Name,
		"attempts", command.Attempts(), "elapsed", time.Since(begin), "exit_code", exit.Code(err))
	return err
}

// guard gives p the shared circuit breaker of its name. The returned function must be called at the end.
func (a *app) guard(ctx context.Context, s *policy.Settings, p *retry.Policy) (done func(), err error) {
	hook, err := a.hook(ctx, a.log)
	if err != nil {
		return nil, err
	}
	store, err := state.Open(s.Store, a.log)
	if err != nil {
		return nil, s.AtSource(err)
	}
	store.InheritPlaces()
	s.Breaker.Store, s.Breaker.Log = store, a.log
	hook.Watch(&s.Breaker)
	p.Breaker = circuit.New(state.Of(s.Key(p.Name)), s.Breaker)
	store.Ready(ctx)
	return func() { hook.Close(); store.Close() }, nil
}

// attempted returns observe without the events of operations that made no attempt, unless
// the log is JSON: a person reads that in the error of the command, or in the line about a
// wait.
func (a *app) attempted(observe func(context.Context, retry.Event)) func(context.Context, retry.Event) {
	return func(ctx context.Context, e retry.Event) {
		if a.logsJSON() || e.Kind != retry.Stopped || e.Attempt > 0 {
			observe(ctx, e)
		}
	}
}

// checkLists returns an error about a list of errors that no exit of a command matches: it
// would have no effect, or prevent all retries.
func checkLists(flags *pflag.FlagSet, p *retry.Policy) error {
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
				"a list with %s: use %s for exit codes", strings.Join(list.known, " or "), list.exits))
		}
	}
	return nil
}

// needsName returns an error about a flag that has no effect without --name: a run without
// a name has no circuit breaker, so that one broken command never blocks another.
func needsName(s *policy.Settings, flags *pflag.FlagSet) error {
	const want = "used with --name: a run without a name has no circuit breaker"
	for _, p := range policy.Parameters() {
		if (p.Breaker || p.Name == "store") && flags.Changed(p.Flag()) {
			return setting.Bad(s.Given(p.Name), flags.Lookup(p.Flag()).Value, want)
		}
	}
	for _, name := range []string{"wait", "on-open"} {
		if flags.Changed(name) {
			return setting.Bad("--"+name, flags.Lookup(name).Value, want)
		}
	}
	return nil
}
